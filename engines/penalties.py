"""Which tokens each sequence has seen, on the device, for repetition, presence and frequency penalties.

A row of the tables belongs to a sequence while there is no other need for it; a sequence that lost its row
is counted anew, so nobody has to say when a sequence ends. The tables are made with the first sequence that
needs them: `max_sequences * vocab * 5` bytes.

Legend: R penalized rows, N table rows, V vocabulary.
"""

from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.sequence import Sequence


@dataclass(slots=True)
class _Row:
    index: int
    num_counted: int = 0


class TokenCounts:
    """What sequences have seen (prompt and output) and how often they put each token out."""

    def __init__(self, *, max_sequences: int, vocab: int, device: torch.device) -> None:
        self._max_sequences = max_sequences
        self._vocab = vocab
        self._device = device
        self._rows: OrderedDict[int, _Row] = OrderedDict()  # by arrival, the longest unused first
        self._seen_NV: Tensor | None = None
        self._outputs_NV: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self._device

    def of(self, sequences: Seq[Sequence]) -> tuple[Tensor, Tensor]:
        """Return (seen bool [R, V], output counts int32 [R, V]), one row a sequence."""
        assert len(sequences) <= self._max_sequences, "more penalized sequences than run at once"
        if self._seen_NV is None or self._outputs_NV is None:
            shape = (self._max_sequences, self._vocab)
            self._seen_NV = torch.zeros(shape, dtype=torch.bool, device=self._device)
            self._outputs_NV = torch.zeros(shape, dtype=torch.int32, device=self._device)
        rows = [self._row(sequence, self._seen_NV, self._outputs_NV) for sequence in sequences]
        self._count(sequences, rows, self._seen_NV, self._outputs_NV)
        index_R = torch.tensor([row.index for row in rows], device=self._device)
        return self._seen_NV[index_R], self._outputs_NV[index_R]

    def _row(self, sequence: Sequence, seen_NV: Tensor, outputs_NV: Tensor) -> _Row:
        """Return the sequence's row, one of a sequence that was away longest where it has none."""
        row = self._rows.get(sequence.arrival)
        if row is None:
            full = len(self._rows) == self._max_sequences
            row = _Row(self._rows.popitem(last=False)[1].index if full else len(self._rows))
            self._rows[sequence.arrival] = row
            seen_NV[row.index] = False
            outputs_NV[row.index] = 0
        self._rows.move_to_end(sequence.arrival)
        return row

    def _count(self, sequences: Seq[Sequence], rows: Seq[_Row], seen_NV: Tensor, outputs_NV: Tensor) -> None:
        """Bring the rows up to date with what their sequences gained."""
        seen: list[tuple[int, int]] = []
        outputs: list[tuple[int, int]] = []
        for sequence, row in zip(sequences, rows, strict=True):
            new = [(row.index, token) for token in sequence.token_ids[row.num_counted :]]
            seen += new
            outputs += new[max(sequence.num_prompt_tokens - row.num_counted, 0) :]
            row.num_counted = len(sequence.token_ids)
        seen_N, seen_V = _columns(seen, self._device)
        seen_NV[seen_N, seen_V] = True
        output_N, output_V = _columns(outputs, self._device)
        ones = torch.ones_like(output_N, dtype=torch.int32)
        outputs_NV.index_put_((output_N, output_V), ones, accumulate=True)


def _columns(pairs: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).to(device)
    return table[:, 0], table[:, 1]
