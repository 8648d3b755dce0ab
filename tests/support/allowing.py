"""A grammar of a few ids, whatever came before."""

from collections.abc import Iterable
from typing import Any

from sequences import sequence

from engines.schedule.sequence import Sequence


class Allowing:
    """Stands in for `engines.sampling.grammar.GrammarState`, and notes the outputs that it was asked with."""

    fault = None

    def __init__(self, ids: Iterable[int], *, vocab: int) -> None:
        self._bits = sum(1 << token_id for token_id in ids).to_bytes(-(-vocab // 32) * 4, "little")
        self.asked: list[list[int]] = []

    def mask(self, outputs: list[int]) -> bytes:
        self.asked.append(outputs)
        return self._bits


def held(ids: Iterable[int], *, vocab: int, **how: Any) -> Sequence:
    """Return a sequence that takes these ids alone."""
    one = sequence([0], **how)
    one.grammar = Allowing(ids, vocab=vocab)  # type: ignore[assignment]
    return one
