"""What the grammars of several sequences propose, asked at once: most of that work needs no interpreter.

A mask of a large vocabulary takes tens of microseconds, one behind the other for every token proposed, and
the device waits meanwhile. What a grammar has learned is only read while threads ask.
"""

from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor

from engines.schedule.sequence import Sequence

THREADS, FEW = 4, 3  # that ask grammars, and of how many the loop asks itself

Proposed = list[tuple[int, bytes | None]]  # tokens, and what a grammar lets follow each


class LikelyBehind:
    """Asks grammars on threads of its own."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def ask(self, sequences: Seq[Sequence], most: int) -> list[Proposed]:
        """Return for each up to `most` tokens that its grammar, which it has, leaves little choice about."""
        outputs = [outputs_of(one) for one in sequences]
        for one, tokens in zip(sequences, outputs, strict=True):
            assert one.grammar is not None, "asked of those that follow one"
            one.grammar.follow(tokens)  # in this order, as all of a grammar learn from it
        if len(sequences) < FEW:
            return [_likely(one, tokens, most) for one, tokens in zip(sequences, outputs, strict=True)]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="likely")
        return list(self._threads.map(_likely, sequences, outputs, [most] * len(sequences)))


def _likely(sequence: Sequence, outputs: list[int], most: int) -> Proposed:
    assert sequence.grammar is not None, "asked of those that follow one"
    return [*sequence.grammar.likely_behind(outputs, most_of(sequence, most))]


def most_of(sequence: Sequence, most: int) -> int:
    """Return how many tokens may be proposed to a sequence: none that no answer can hold."""
    if sequence.num_unknown or not sequence.takes_proposals:
        return 0
    return min(most, sequence.max_tokens - sequence.num_tokens - 1)


def outputs_of(sequence: Sequence) -> list[int]:
    """Return the tokens of its answer."""
    return sequence.token_ids[sequence.num_prompt_tokens :]
