"""Short steps with chunks of prompts replayed from CUDA graphs: a network around a network.

Launching a step op by op takes the host some 10 ms, whatever its length, and a GPU computes a few hundred
tokens in less. Such a step is copied into fixed buffers and replayed at the next larger number of tokens;
every other one goes to the network behind. Sequences that decode are chunks of one token here. Behind the
last token at least one row is left, which no sequence owns: nothing is written for it, and whatever fills
up the picture rows goes there.

Legend: as in `engines/step.py`; N the most sequences of a step, H hidden.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import KvLayer
from engines.spec import ModelSpec
from engines.step import AttentionBatch, StepInput
from engines.vision.parts import ImagePixels

MOST_SEQUENCES = 8
# A lone block of the chunks' kernel reads all keys of a decoding sequence and head: fine for so many.
MOST_KEYS_BESIDE_DECODES = 2048


class ChunkRecorder(Protocol):
    """Turns a computation on fixed tensors into one that can be repeated (`engines.turbomind.graphs`)."""

    def record(self, run: Callable[[], tuple[Tensor]]) -> tuple[Callable[[], None], tuple[Tensor]]:
        """Return a function that repeats `run`, and the rows that it leaves."""
        ...


class ChunkGraphs:
    """Implements `engines.network.Network`. Steps run in order, on one stream."""

    def __init__(
        self,
        network: Network,
        kv: Sequence[KvLayer],
        *,
        sizes: Sequence[int],
        session_len: int,
        device: torch.device,
        recorder: ChunkRecorder,
    ) -> None:
        self._network = network
        self._kv = kv
        self._recorder = recorder
        self._sizes = sorted(sizes)
        max_pages = -(-session_len // kv[0].page_tokens)
        hidden = network.spec.decoder.hidden
        dtype = kv[0].keys_PKTD.dtype  # pages that are not quantized keep the compute dtype
        self._buffers = _Buffers(self._sizes[-1], max_pages, hidden, device=device, dtype=dtype)
        self._graphs: dict[int, tuple[Callable[[], None], Tensor]] = {}
        self.replays = 0

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._network.spec

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, the largest first: the others live in its memory."""
        for size in reversed(self._sizes):
            run = partial(self._run, self._buffers.step(size))
            replay, (hidden_NH,) = self._recorder.record(run)
            self._graphs[size] = (replay, hidden_NH)

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows of each picture."""
        return self._network.encode_images(images, max_tiles=max_tiles)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Replay a short step with chunks, run any other; a replay writes over the last one's rows."""
        if kv is not self._kv or not self._takes(step):
            return self._network.hidden(step, kv)
        size = next(size for size in self._sizes if size > len(step.token_ids_T))
        self._buffers.fill(step, size)
        replay, hidden_NH = self._graphs[size]
        replay()
        self.replays += 1
        return hidden_NH[: len(step.sample_rows_S)]

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits."""
        return self._network.logits(hidden_SH)

    def _run(self, step: StepInput) -> tuple[Tensor]:
        return (self._network.hidden(step, self._kv),)

    def _takes(self, step: StepInput) -> bool:
        batch = step.attention
        num_sequences, num_pages = batch.pages_BP.shape
        return (
            not step.adapter_rows  # recordings run the bare model
            and len(step.token_ids_T) < self._sizes[-1]
            and batch.num_decodes < num_sequences <= MOST_SEQUENCES
            and (batch.num_decodes == 0 or batch.max_kv <= MOST_KEYS_BESIDE_DECODES)
            and step.positions_T.dim() == 1
            and len(step.sample_rows_S) <= MOST_SEQUENCES
            and num_pages <= self._buffers.max_pages
        )


class _Buffers:
    """The fixed tensors that graphs read. Rows without a token have slot -1, other sequences are empty."""

    def __init__(
        self, max_tokens: int, max_pages: int, hidden: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.max_pages = max_pages
        self._tokens_4T = torch.zeros(4, max_tokens, dtype=torch.int64, device=device)
        self._tokens_4T[2:] = torch.tensor([[1], [-1]], device=device)  # rope length 1, no slot
        self._starts_N1 = torch.zeros(MOST_SEQUENCES + 1, dtype=torch.int32, device=device)
        self._kv_lens_N = torch.zeros(MOST_SEQUENCES, dtype=torch.int32, device=device)
        self._pages_NP = torch.zeros(MOST_SEQUENCES, max_pages, dtype=torch.int32, device=device)
        self._rows_N = torch.zeros(MOST_SEQUENCES, dtype=torch.int64, device=device)
        self._feature_rows_T = torch.zeros(max_tokens, dtype=torch.int64, device=device)
        self._features_TH = torch.zeros(max_tokens, hidden, dtype=dtype, device=device)

    def step(self, size: int) -> StepInput:
        """Return the step of the first `size` rows; its tensors are views of the buffers."""
        ids_T, positions_T, rope_lens_T, slots_T = self._tokens_4T[:, :size]
        return StepInput(
            token_ids_T=ids_T,
            positions_T=positions_T,
            rope_lens_T=rope_lens_T,
            attention=AttentionBatch(
                num_decodes=0,
                q_starts_B1=self._starts_N1,
                kv_lens_B=self._kv_lens_N,
                pages_BP=self._pages_NP,
                slots_T=slots_T,
                max_q=size,
                max_kv=0,  # the kernels read lengths from memory
                chunk_lens=(),  # for quantized pages alone, which are not recorded
            ),
            sample_rows_S=self._rows_N,
            feature_rows_M=self._feature_rows_T[:size],
            features_MH=self._features_TH[:size],
        )

    def fill(self, step: StepInput, size: int) -> None:
        """Copy a step into the first rows and empty the rest up to `size`."""
        batch = step.attention
        num, num_sequences, num_pages = len(step.token_ids_T), *batch.pages_BP.shape
        sources = [step.token_ids_T, step.positions_T, step.rope_lens_T, batch.slots_T]
        torch._foreach_copy_(list(self._tokens_4T[:, :num]), sources)
        self._tokens_4T[3, num:size] = -1
        self._starts_N1.fill_(num)
        self._starts_N1[: num_sequences + 1].copy_(batch.q_starts_B1)
        self._kv_lens_N[:num_sequences].copy_(batch.kv_lens_B)
        self._pages_NP[:num_sequences, :num_pages].copy_(batch.pages_BP)
        self._rows_N[: len(step.sample_rows_S)].copy_(step.sample_rows_S)
        self._rows_N[len(step.sample_rows_S) :] = 0
        self._feature_rows_T[:size] = size - 1  # the row that no sequence owns
        if step.features_MH is not None:
            num_rows = len(step.features_MH)
            self._feature_rows_T[:num_rows].copy_(step.feature_rows_M)
            self._features_TH[:num_rows].copy_(step.features_MH)
