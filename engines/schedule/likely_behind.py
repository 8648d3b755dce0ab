"""What the grammars of several sequences propose: all walk ahead at once, a token each time.

A mask of a large vocabulary takes tens of microseconds, one behind the other for every token proposed, and
the device waits meanwhile. What a grammar has learned is only read while they walk.
"""

from collections.abc import Sequence as Seq

from engines.sampling.masks_at_once import MasksAtOnce
from engines.schedule.sequence import Sequence

Proposed = list[tuple[int, bytes | None]]  # tokens, and what a grammar lets follow each


class LikelyBehind:
    """Asks grammars."""

    def __init__(self) -> None:
        self._masks = MasksAtOnce()

    def ask(self, sequences: Seq[Sequence], most: int) -> list[Proposed]:
        """Return for each up to `most` tokens that its grammar, which it has, leaves little choice about."""
        grammars = [one.grammar for one in sequences if one.grammar is not None]
        assert grammars and len(grammars) == len(sequences), "asked of those that follow one"
        outputs = [outputs_of(one) for one in sequences]
        for grammar, tokens in zip(grammars, outputs, strict=True):
            grammar.follow(tokens)  # in this order, as all of a grammar learn from it
        walks = [
            grammar.likely_behind(tokens, most_of(one, most))
            for one, grammar, tokens in zip(sequences, grammars, outputs, strict=True)
        ]
        return [[*found] for found in self._masks.walked(walks, grammars[0].mask_bytes)]


def most_of(sequence: Sequence, most: int) -> int:
    """Return how many tokens may be proposed to a sequence: none that no answer can hold."""
    if sequence.num_unknown or not sequence.takes_proposals:
        return 0
    return min(most, sequence.max_tokens - sequence.num_tokens - 1)


def outputs_of(sequence: Sequence) -> list[int]:
    """Return the tokens of its answer."""
    return sequence.token_ids[sequence.num_prompt_tokens :]
