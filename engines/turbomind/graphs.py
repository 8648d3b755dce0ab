"""Decode steps replayed from CUDA graphs: a network around a network, with the same calls and three more.

A step in which every sequence decodes and is sampled (`engines/steps/decode_rows.py`) is laid out in fixed
buffers and replayed at the next larger batch size of a ladder, LM head and the choice of tokens included
(`engines/sampling/choice_rows.py`). Every other step goes to the network behind, and its tokens are chosen by
a launch of its own behind the logits; so are those of a step that is replayed before its rows are known.
Rows that fill up a batch have no keys and no slot: attention gives them zeros, nothing is written for them.
Steps with proposed tokens have recordings of their own, in which the keys and values of all rows are stored
before any row attends. Where adapters are loaded there is a second recording of every size, with their sums,
for steps that have a row of one.

Legend: as in `engines/steps/step.py`; H hidden, V vocabulary, N the most rows, W words of a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from engines.network import Network, Replayed
from engines.ops import KvLayer
from engines.sampling.choice_rows import CHOICE_WORDS, ChoiceRows
from engines.spec import ModelSpec
from engines.steps.decode_rows import DecodeRows
from engines.steps.step import AttentionBatch, StepInput
from engines.turbomind.batch_ladder import ladder
from engines.turbomind.recorder import Recorder, recordings
from engines.vision.parts import ImagePixels

Outputs = tuple[Tensor, Tensor]  # logits, ids


@dataclass(frozen=True, kw_only=True, slots=True)
class _Captured:
    replay: Callable[[], None]
    logits_SV: Tensor
    ids_S: Tensor


class Choose(Protocol):
    """Returns ids int64 [S] of logits [S, V] and a CHOICE of each row."""

    def __call__(self, logits_SV: Tensor, choices_SC: Tensor) -> Tensor: ...


class LayOut(Protocol):
    """Writes a step into fixed buffers, rows behind its own up to `size` as empty ones."""

    def __call__(
        self,
        rows_BW: Tensor,
        last_ids_S: Tensor | None,
        *,
        size: int,
        vocab: int,
        tokens_5N: Tensor,
        kv_lens_N: Tensor,
        pages_NP: Tensor,
    ) -> None: ...


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
        lay_out: LayOut,
        copy_ids: Callable[[Tensor, Tensor], None],
        proposing_sizes: Sequence[int] = (),
    ) -> None:
        """`copy_ids` brings tokens [S] to other memory, that of the host too.

        `proposing_sizes`: of the steps with tokens that are proposed.
        """
        self._recorder = recorder
        self._choose = choose
        self._lay_out = lay_out
        self.copy_ids = copy_ids
        self._network = network
        self._kv = kv
        self._buffers = _Buffers(max_batch_size, -(-session_len // kv[0].page_tokens), device)
        self._greedy_BC = torch.zeros(max_batch_size, CHOICE_WORDS, dtype=torch.int64, device=device)
        # By size, whether adapters add to it, and whether rows of one sequence see each other.
        self._graphs: dict[tuple[int, bool, bool], _Captured] = {}
        self._sizes = {False: ladder(max_batch_size), True: proposing_sizes}
        self.replays = 0

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._network.spec

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, the largest first: the others live in its memory."""
        kinds = [
            (*kind, proposing)
            for proposing, sizes in self._sizes.items()
            for kind in recordings(sizes, self.spec)
        ]
        runs = [
            partial(
                self._run,
                self._buffers.step(size, adapted=adapted, proposing=proposing),
                self._buffers.choices_BC[:size],
            )
            for size, adapted, proposing in kinds
        ]
        for kind, (replay, outputs) in zip(kinds, self._recorder.record(runs), strict=True):
            logits_SV, ids_S = outputs
            self._graphs[kind] = _Captured(replay=replay, logits_SV=logits_SV, ids_S=ids_S)

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows of each picture."""
        return self._network.encode_images(images, max_tiles=max_tiles)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run a step that is not replayed; return the normed sampled rows, [S, H]."""
        return self._network.hidden(step, kv)

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits [S, V]."""
        return self._network.logits(hidden_SH)

    def choose(self, logits_SV: Tensor, rows: ChoiceRows) -> Tensor:
        """Return the tokens [S] of logits that any step left."""
        greedy_SC = self._greedy_BC[: len(logits_SV)]
        return self._choose(logits_SV, greedy_SC if rows.choices_SC is None else rows.choices_SC)

    def replay(self, rows: DecodeRows, how: ChoiceRows | None) -> Replayed:
        """Replay a step; without `how` its logits are meant. The next replay writes over what it gives."""
        num = len(rows.rows_BW)
        size = next(size for size in self._sizes[rows.has_proposals] if size >= num)
        self._buffers.fill_choices(None if how is None else how.choices_SC)
        self._buffers.fill(rows, size, self._lay_out, vocab=self.spec.decoder.vocab)
        captured = self._graphs[size, rows.has_adapters, rows.has_proposals]
        captured.replay()
        self.replays += 1
        return Replayed(captured.logits_SV[:num], captured.ids_S[:num])

    def _run(self, step: StepInput, choices_SC: Tensor) -> Outputs:
        logits_SV = self._network.logits(self._network.hidden(step, self._kv))
        return logits_SV, self._choose(logits_SV, choices_SC)


class _Buffers:
    """The fixed tensors that graphs read. Rows without a sequence keep slot -1 and length 0."""

    def __init__(self, max_batch_size: int, max_pages: int, device: torch.device) -> None:
        self._tokens_5B = torch.zeros(5, max_batch_size, dtype=torch.int64, device=device)
        self._tokens_5B[2:] = torch.tensor([[1], [-1], [-1]], device=device)  # length 1, no slot, no adapter
        self._kv_lens_B = torch.zeros(max_batch_size, dtype=torch.int32, device=device)
        self._pages_BP = torch.zeros(max_batch_size, max_pages, dtype=torch.int32, device=device)
        self._starts_B1 = torch.arange(max_batch_size + 1, dtype=torch.int32, device=device)
        self._rows_B = torch.arange(max_batch_size, device=device)
        self.choices_BC = torch.zeros(max_batch_size, CHOICE_WORDS, dtype=torch.int64, device=device)
        self._is_greedy = True  # all temperatures are 0

    def step(self, size: int, *, adapted: bool, proposing: bool) -> StepInput:
        """Return the step of the first `size` rows; its tensors are views of the buffers."""
        ids_B, positions_B, rope_lens_B, slots_B, adapter_B = self._tokens_5B[:, :size]
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
                has_proposals=proposing,
            ),
            sample_rows_S=self._rows_B[:size],
            feature_rows_M=self._rows_B[:0],
            features_MH=None,
            adapter_T=adapter_B if adapted else None,
        )

    def fill_choices(self, choices_SC: Tensor | None) -> None:
        """Copy how the first rows are chosen; None: all take their largest logit, as rows behind them do."""
        if not self._is_greedy:
            self.choices_BC.zero_()
        self._is_greedy = choices_SC is None
        if choices_SC is not None:
            self.choices_BC[: len(choices_SC)].copy_(choices_SC)

    def fill(self, rows: DecodeRows, size: int, lay_out: LayOut, *, vocab: int) -> None:
        """Lay a step out in the first rows and empty the rest up to `size`."""
        lay_out(
            rows.rows_BW,
            rows.last_ids_S,
            size=size,
            vocab=vocab,
            tokens_5N=self._tokens_5B,
            kv_lens_N=self._kv_lens_B,
            pages_NP=self._pages_BP,
        )
