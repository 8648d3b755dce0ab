"""Steps with chunks of prompts replayed from CUDA graphs: a network around a network.

Launching a step op by op takes the host 10 to 20 ms, whatever its length, and a GPU computes several hundred
tokens in less. Such a step is copied into fixed buffers and replayed at the next larger number of tokens;
every other one goes to the network behind. A recording has room for sequences that decode, ahead of the
chunks, and for as many tokens as its size: attention of decodes runs over the first rows, those of no
sequence included, and that of chunks writes over what is theirs. Behind the last token at least one row is
left, which no sequence owns: nothing is written for it, and whatever fills up the picture rows goes there.
Where adapters are loaded there is a second recording of every size.

Legend: as in `engines/steps/step.py`; N the most sequences that a recording has room for, C the most chunks
of them, H hidden.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from engines.memory.kv_bytes import PLAIN_TOKENS
from engines.network import Network
from engines.ops import KvLayer
from engines.spec import ModelSpec
from engines.steps.step import AttentionBatch, StepInput
from engines.turbomind.recorder import Recorder, recordings
from engines.vision.parts import ImagePixels

MOST_CHUNKS = 8


class ChunkGraphs:
    """Implements `engines.network.Network`. Steps run in order, on one stream."""

    def __init__(
        self,
        network: Network,
        kv: Sequence[KvLayer],
        *,
        sizes: Sequence[int],
        max_batch_size: int,
        session_len: int,
        device: torch.device,
        dtype: torch.dtype,
        recorder: Recorder,
    ) -> None:
        self._network = network
        self._kv = kv
        self._recorder = recorder
        self._sizes = sorted(sizes)
        self._buffers = _Buffers(
            self._sizes[-1],
            max_decodes=max_batch_size,
            max_pages=-(-session_len // kv[0].page_tokens),
            max_chunk_kv=_most_chunk_kv(kv[0], session_len),
            hidden=network.spec.decoder.hidden,
            device=device,
            dtype=dtype,
        )
        self._graphs: dict[tuple[int, bool], tuple[Callable[[], None], Tensor]] = {}
        self.replays = 0

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._network.spec

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, the largest first: the others live in its memory."""
        kinds = recordings(self._sizes, self.spec)
        runs = [partial(self._run, self._buffers.step(size, adapted=adapted)) for size, adapted in kinds]
        for kind, (replay, (hidden_SH,)) in zip(kinds, self._recorder.record(runs), strict=True):
            self._graphs[kind] = (replay, hidden_SH)

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows of each picture."""
        return self._network.encode_images(images, max_tiles=max_tiles)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Replay a step with chunks, run any other; a replay writes over the last one's rows."""
        if kv is not self._kv or not self._takes(step):
            return self._network.hidden(step, kv)
        size = next(size for size in self._sizes if size > len(step.token_ids_T))
        self._buffers.fill(step, size)
        replay, hidden_SH = self._graphs[size, step.adapter_T is not None]
        replay()
        self.replays += 1
        return hidden_SH[: len(step.sample_rows_S)]

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits."""
        return self._network.logits(hidden_SH)

    def _run(self, step: StepInput) -> tuple[Tensor]:
        return (self._network.hidden(step, self._kv),)

    def _takes(self, step: StepInput) -> bool:
        batch = step.attention
        num_sequences, num_pages = batch.pages_BP.shape
        return (
            len(step.token_ids_T) < self._sizes[-1]
            and 0 < num_sequences - batch.num_decodes <= MOST_CHUNKS
            and batch.num_decodes <= self._buffers.max_decodes
            and max(batch.chunk_lens) <= self._buffers.max_chunk_kv
            and step.positions_T.dim() == 1
            and num_pages <= self._buffers.max_pages
            and len(step.sample_rows_S) <= num_sequences
        )


def _most_chunk_kv(layer: KvLayer, session_len: int) -> int:
    """Return the most tokens that a chunk's sequence has in the cache.

    Chunks over quantized pages have equal shares of what may stand as numbers at once.
    """
    return session_len if layer.format == "none" else min(session_len, PLAIN_TOKENS // MOST_CHUNKS)


class _Buffers:
    """The fixed tensors that graphs read. Rows without a token have slot -1, other sequences are empty.

    Those that decode stand before place `max_decodes` of N, chunks from there on: a recording of fewer rows
    than sequences has room for the last of the former.
    """

    def __init__(
        self,
        max_tokens: int,
        *,
        max_decodes: int,
        max_pages: int,
        max_chunk_kv: int,
        hidden: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.max_decodes = max_decodes
        self.max_pages = max_pages
        self.max_chunk_kv = max_chunk_kv
        most = max_decodes + MOST_CHUNKS
        self._tokens_4T = torch.zeros(4, max_tokens, dtype=torch.int64, device=device)
        self._tokens_4T[2:] = torch.tensor([[1], [-1]], device=device)  # rope length 1, no slot
        self._starts_N1 = torch.zeros(most + 1, dtype=torch.int32, device=device)
        self._kv_lens_N = torch.zeros(most, dtype=torch.int32, device=device)
        self._pages_NP = torch.zeros(most, max_pages, dtype=torch.int32, device=device)
        self._rows_N = torch.zeros(most, dtype=torch.int64, device=device)
        self._adapter_T = torch.full((max_tokens,), -1, device=device)
        self._feature_rows_T = torch.zeros(max_tokens, dtype=torch.int64, device=device)
        self._features_TH = torch.zeros(max_tokens, hidden, dtype=dtype, device=device)

    def step(self, size: int, *, adapted: bool) -> StepInput:
        """Return the step of the first `size` rows; its tensors are views of the buffers."""
        ids_T, positions_T, rope_lens_T, slots_T = self._tokens_4T[:, :size]
        num_decodes = self._num_decodes(size)
        first = self.max_decodes - num_decodes
        return StepInput(
            token_ids_T=ids_T,
            positions_T=positions_T,
            rope_lens_T=rope_lens_T,
            attention=AttentionBatch(
                num_decodes=num_decodes,
                q_starts_B1=self._starts_N1[first:],
                kv_lens_B=self._kv_lens_N[first:],
                pages_BP=self._pages_NP[first:],
                slots_T=slots_T,
                max_q=size,
                max_kv=0,  # the kernels read lengths from memory
                chunk_lens=(self.max_chunk_kv,) * MOST_CHUNKS,  # bounds
            ),
            sample_rows_S=self._rows_N[: min(num_decodes + MOST_CHUNKS, size)],
            feature_rows_M=self._feature_rows_T[:size],
            features_MH=self._features_TH[:size],
            adapter_T=self._adapter_T[:size] if adapted else None,
        )

    def fill(self, step: StepInput, size: int) -> None:
        """Copy a step into the first rows and empty the rest up to `size`."""
        batch, chunks = step.attention, self.max_decodes
        num, num_sampled = len(step.token_ids_T), len(step.sample_rows_S)
        sources = [step.token_ids_T, step.positions_T, step.rope_lens_T, batch.slots_T]
        torch._foreach_copy_(list(self._tokens_4T[:, :num]), sources)
        self._tokens_4T[3, num:size] = -1
        if step.adapter_T is not None:
            self._adapter_T[:num].copy_(step.adapter_T)
        self._starts_N1.fill_(num)
        self._starts_N1[chunks : chunks + len(batch.chunk_lens) + 1].copy_(
            batch.q_starts_B1[batch.num_decodes :]
        )
        self._kv_lens_N.zero_()
        self._copy_sequences(batch, slice(0, batch.num_decodes), chunks - self._num_decodes(size))
        self._copy_sequences(batch, slice(batch.num_decodes, None), chunks)
        self._rows_N[:num_sampled].copy_(step.sample_rows_S)
        self._rows_N[num_sampled:] = 0
        self._feature_rows_T[:size] = size - 1  # the row that no sequence owns
        if step.features_MH is not None:
            num_rows = len(step.features_MH)
            self._feature_rows_T[:num_rows].copy_(step.feature_rows_M)
            self._features_TH[:num_rows].copy_(step.features_MH)

    def _num_decodes(self, size: int) -> int:
        """Return how many that decode fit beside a token of a chunk and the row that is nobody's."""
        return min(self.max_decodes, size - 2)

    def _copy_sequences(self, batch: AttentionBatch, which: slice, first: int) -> None:
        """Copy lengths and pages of these sequences to places from `first` on."""
        pages_BP = batch.pages_BP[which]
        num, num_pages = pages_BP.shape
        if num:
            self._kv_lens_N[first : first + num].copy_(batch.kv_lens_B[which])
            self._pages_NP[first : first + num, :num_pages].copy_(pages_BP)
