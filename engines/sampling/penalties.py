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

from engines.schedule.batch_plan import Chunk
from engines.schedule.sequence import Sequence
from engines.steps.host_copy import on_device


def penalized_rows(chunks: Seq[Chunk]) -> list[int]:
    """Return the rows of chunks that are penalized and still wanted."""
    return [row for row, chunk in enumerate(chunks) if chunk.sequence.is_penalized and chunk.is_current]


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
        self._rows: OrderedDict[tuple[int, int], _Row] = OrderedDict()  # by arrival and attempt
        self._tables: tuple[Tensor, Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self._device

    def of(self, chunks: Seq[Chunk], last_ids_S: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (seen bool [R, V], output counts int32 [R, V]) up to the end of each chunk, one row a chunk.

        `last_ids_S` are the tokens that the step before samples; None where all are known here.
        """
        index_R = on_device(self.rows(chunks, last_ids_S), self._device)
        seen_NV, outputs_NV = self.tables()
        return seen_NV[index_R], outputs_NV[index_R]

    def rows(self, chunks: Seq[Chunk], last_ids_S: Tensor | None) -> list[int]:
        """Bring the tables up to the end of each chunk; return the row of each."""
        assert len(chunks) <= self._max_sequences, "more penalized sequences than run at once"
        tables = self.tables()
        rows = [self._row(chunk.sequence, *tables) for chunk in chunks]
        self._count_known(chunks, rows, *tables)
        if last_ids_S is not None:
            self._count_last(chunks, rows, last_ids_S, *tables)
        for chunk, row in zip(chunks, rows, strict=True):
            row.num_counted = chunk.end
        return [row.index for row in rows]

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return seen bool [N, V] and output counts int32 [N, V], where they stay."""
        if self._tables is None:
            shape = (self._max_sequences, self._vocab)
            self._tables = (
                torch.zeros(shape, dtype=torch.bool, device=self._device),
                torch.zeros(shape, dtype=torch.int32, device=self._device),
            )
        return self._tables

    def _row(self, sequence: Sequence, seen_NV: Tensor, outputs_NV: Tensor) -> _Row:
        """Return the sequence's row, one of a sequence that was away longest where it has none."""
        key = (sequence.arrival, sequence.attempt)
        row = self._rows.get(key)
        if row is None:
            full = len(self._rows) == self._max_sequences
            row = _Row(self._rows.popitem(last=False)[1].index if full else len(self._rows))
            self._rows[key] = row
            seen_NV[row.index] = False
            outputs_NV[row.index] = 0
        self._rows.move_to_end(key)
        return row

    def _count_known(self, chunks: Seq[Chunk], rows: Seq[_Row], seen_NV: Tensor, outputs_NV: Tensor) -> None:
        """Bring the rows up to date with what their sequences gained, as far as it is known here."""
        seen: list[tuple[int, int]] = []
        outputs: list[tuple[int, int]] = []
        for chunk, row in zip(chunks, rows, strict=True):
            new = [(row.index, token) for token in chunk.sequence.token_ids[row.num_counted : chunk.end]]
            seen += new
            outputs += new[max(chunk.sequence.num_prompt_tokens - row.num_counted, 0) :]
        seen_N, seen_V = _columns(seen, self._device)
        seen_NV[seen_N, seen_V] = True
        _add_one(outputs_NV, *_columns(outputs, self._device))

    def _count_last(
        self,
        chunks: Seq[Chunk],
        rows: Seq[_Row],
        last_ids_S: Tensor,
        seen_NV: Tensor,
        outputs_NV: Tensor,
    ) -> None:
        """Count the outputs that only the device knows."""
        found = [
            (row.index, chunk.source_row)
            for chunk, row in zip(chunks, rows, strict=True)
            if chunk.source_row is not None and row.num_counted < chunk.end
        ]
        row_N, source_N = _columns(found, self._device)
        token_N = last_ids_S[source_N].clamp(max=self._vocab - 1)  # no id where a row held a NaN
        seen_NV[row_N, token_N] = True
        _add_one(outputs_NV, row_N, token_N)


def _add_one(table_NV: Tensor, row_N: Tensor, token_N: Tensor) -> None:
    table_NV.index_put_((row_N, token_N), torch.ones_like(token_N, dtype=torch.int32), accumulate=True)


def _columns(pairs: Seq[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    table = on_device(pairs, device).reshape(-1, 2)
    return table[:, 0], table[:, 1]
