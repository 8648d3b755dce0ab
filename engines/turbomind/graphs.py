"""Decode steps replayed from CUDA graphs: a network around a network, with the same three calls and a fourth.

A step in which every sequence decodes and is sampled is copied into fixed buffers and replayed at the next
larger batch size of a ladder, LM head and the choice of tokens included; every other step goes to the network
behind. The choice holds for rows that are all plain (`engines/plain_rows.py`), after other steps too,
launched behind their logits; rows that are not plain read the logits. Rows that fill up a batch have no keys
and no slot: attention gives them zeros, nothing is written for them. Where adapters are loaded there is a
second recording of every size, with their sums, for steps that have a row of one.

Legend: as in `engines/step.py`; H hidden, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import KvLayer
from engines.plain_rows import CHOICE_WORDS, PlainRows
from engines.spec import ModelSpec
from engines.step import AttentionBatch, StepInput
from engines.turbomind.batch_ladder import ladder
from engines.vision.parts import ImagePixels

Outputs = tuple[Tensor, Tensor, Tensor]  # hidden, logits, ids
Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


class Recorder(Protocol):
    """Turns a computation on fixed tensors into one that can be repeated."""

    def record(self, run: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Return a function that repeats `run`, and the tensors it leaves its results in."""
        ...


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory; record the largest first."""

    def __init__(self) -> None:
        self._pool: Any = None

    def record(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        """Run once for what has to be compiled and allocated, then capture."""
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads go on calling CUDA meanwhile: NCCL's watchdog does.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = run()
        self._pool = self._pool or graph.pool()
        return graph.replay, outputs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Captured:
    replay: Callable[[], None]
    hidden_SH: Tensor
    logits_SV: Tensor
    ids_S: Tensor


class Choose(Protocol):
    """Returns ids int64 [S] of logits [S, V] and a CHOICE of each row."""

    def __call__(self, logits_SV: Tensor, choices_S6: Tensor) -> Tensor: ...


class DecodeGraphs:
    """Implements `engines.network.ChoosingNetwork`. Steps run in order, on one stream."""

    def __init__(
        self,
        network: Network,
        kv: Sequence[KvLayer],
        *,
        max_batch_size: int,
        session_len: int,
        device: torch.device,
        recorder: Recorder,
        choose: Choose,
    ) -> None:
        self._recorder = recorder
        self._choose = choose
        self._network = network
        self._kv = kv
        self._page_tokens = kv[0].page_tokens
        self._buffers = _Buffers(max_batch_size, -(-session_len // self._page_tokens), device)
        self._greedy_B6 = torch.zeros(max_batch_size, CHOICE_WORDS, dtype=torch.int64, device=device)
        self._graphs: dict[tuple[int, bool], _Captured] = {}  # by size, and whether adapters add to it
        self._sizes = ladder(max_batch_size)
        self._replayed: _Captured | None = None
        self._hidden_SH: Tensor | None = None  # what the last replay handed out
        self.replays = 0

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._network.spec

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, the largest first: the others live in its memory."""
        for size, adapted in recordings(self._sizes, self.spec):
            step = self._buffers.step(size, adapted=adapted)
            run = partial(self._run, step, self._buffers.choices_B6[:size])
            replay, (hidden_SH, logits_SV, ids_S) = self._recorder.record(run)
            self._graphs[size, adapted] = _Captured(
                replay=replay, hidden_SH=hidden_SH, logits_SV=logits_SV, ids_S=ids_S
            )

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows of each picture."""
        return self._network.encode_images(images, max_tiles=max_tiles)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Replay a decode step, run any other."""
        if kv is not self._kv or not self._is_decode(step):
            return self._network.hidden(step, kv)
        self._replayed = self._replay(step)
        self._hidden_SH = self._replayed.hidden_SH[: len(step.token_ids_T)]
        return self._hidden_SH

    def choose(self, step: StepInput, rows: PlainRows) -> Tensor:
        """Return the tokens [S] of a step; those of a replayed one are written over by the next replay."""
        if not self._is_decode(step):
            logits_SV = self._network.logits(self._network.hidden(step, self._kv))
            greedy_S6 = self._greedy_B6[: len(logits_SV)]
            return self._choose(logits_SV, greedy_S6 if rows.choices_S6 is None else rows.choices_S6)
        self._buffers.fill_choices(rows.choices_S6)
        self._hidden_SH = None
        return self._replay(step).ids_S[: len(step.token_ids_T)]

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits; those of a replayed step are there already, until the next one is replayed."""
        if self._replayed is not None and hidden_SH is self._hidden_SH:
            return self._replayed.logits_SV[: len(hidden_SH)]
        return self._network.logits(hidden_SH)

    def _replay(self, step: StepInput) -> _Captured:
        size = next(size for size in self._sizes if size >= len(step.token_ids_T))
        self._buffers.fill(step, size)
        captured = self._graphs[size, step.adapter_T is not None]
        captured.replay()
        self.replays += 1
        return captured

    def _run(self, step: StepInput, choices_S6: Tensor) -> Outputs:
        hidden_SH = self._network.hidden(step, self._kv)
        logits_SV = self._network.logits(hidden_SH)
        return hidden_SH, logits_SV, self._choose(logits_SV, choices_S6)

    def _is_decode(self, step: StepInput) -> bool:
        num = len(step.token_ids_T)
        return (
            step.features_MH is None
            and step.positions_T.dim() == 1
            and num == step.attention.num_decodes == len(step.sample_rows_S)
            and num <= self._sizes[-1]
            and step.attention.pages_BP.shape[1] <= self._buffers.max_pages
        )


def recordings(sizes: Sequence[int], spec: ModelSpec) -> list[tuple[int, bool]]:
    """Return the steps to record, the largest first: how many rows, and whether adapters add to them."""
    return [
        (size, adapted) for size in reversed(sizes) for adapted in (False, True)[: 1 + bool(spec.adapters)]
    ]


class _Buffers:
    """The fixed tensors that graphs read. Rows without a sequence keep slot -1 and length 0."""

    def __init__(self, max_batch_size: int, max_pages: int, device: torch.device) -> None:
        self.max_pages = max_pages
        self._tokens_4B = torch.zeros(4, max_batch_size, dtype=torch.int64, device=device)
        self._tokens_4B[2:] = torch.tensor([[1], [-1]], device=device)  # rope length 1, no slot
        self._kv_lens_B = torch.zeros(max_batch_size, dtype=torch.int32, device=device)
        self._pages_BP = torch.zeros(max_batch_size, max_pages, dtype=torch.int32, device=device)
        self._starts_B1 = torch.arange(max_batch_size + 1, dtype=torch.int32, device=device)
        self._rows_B = torch.arange(max_batch_size, device=device)
        self._adapter_B = torch.full((max_batch_size,), -1, device=device)
        self.choices_B6 = torch.zeros(max_batch_size, CHOICE_WORDS, dtype=torch.int64, device=device)
        self._is_greedy = True  # all temperatures are 0

    def step(self, size: int, *, adapted: bool) -> StepInput:
        """Return the step of the first `size` rows; its tensors are views of the buffers."""
        ids_B, positions_B, rope_lens_B, slots_B = self._tokens_4B[:, :size]
        return StepInput(
            token_ids_T=ids_B,
            positions_T=positions_B,
            rope_lens_T=rope_lens_B,
            attention=AttentionBatch(
                num_decodes=size,
                q_starts_B1=self._starts_B1[: size + 1],
                kv_lens_B=self._kv_lens_B[:size],
                pages_BP=self._pages_BP[:size],
                slots_T=slots_B,
                max_q=1,
                max_kv=0,  # the kernels read lengths from memory
                chunk_lens=(),
            ),
            sample_rows_S=self._rows_B[:size],
            feature_rows_M=self._rows_B[:0],
            features_MH=None,
            adapter_T=self._adapter_B[:size] if adapted else None,
        )

    def fill_choices(self, choices_S6: Tensor | None) -> None:
        """Copy how the first rows are chosen; None: all take their largest logit, as rows behind them do."""
        if not self._is_greedy:
            self.choices_B6.zero_()
        self._is_greedy = choices_S6 is None
        if choices_S6 is not None:
            self.choices_B6[: len(choices_S6)].copy_(choices_S6)

    def fill(self, step: StepInput, size: int) -> None:
        """Copy a step into the first rows and empty the rest up to `size`."""
        num, batch = len(step.token_ids_T), step.attention
        sources = [step.token_ids_T, step.positions_T, step.rope_lens_T, batch.slots_T]
        torch._foreach_copy_(list(self._tokens_4B[:, :num]), sources)
        self._kv_lens_B[:num].copy_(batch.kv_lens_B)
        self._pages_BP[:num, : batch.pages_BP.shape[1]].copy_(batch.pages_BP)
        if step.adapter_T is not None:
            self._adapter_B[:num].copy_(step.adapter_T)
        if num < size:
            self._tokens_4B[3, num:size] = -1
            self._kv_lens_B[num:size] = 0
