"""Finding stop strings in a text that grows: what may go out, what must wait. Knows no tokens."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StopMatch:
    """A stop string inside a text, characters [start, end)."""

    word: str
    start: int
    end: int


def first_match(text: str, words: Sequence[str]) -> StopMatch | None:
    """Return the stop string that is complete first; of several that end together, the longest.

    Deciding by the end makes the answer the same wherever the text was cut while it grew.
    """
    matches = (
        StopMatch(word=word, start=start, end=start + len(word))
        for word in words
        if (start := text.find(word)) >= 0
    )
    return min(matches, key=lambda match: (match.end, match.start), default=None)


def safe_length(text: str, words: Sequence[str]) -> int:
    """Return how many characters of `text` cannot be the beginning of a stop string that is still to come."""
    longest = max((len(word) for word in words), default=1) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        tail = text[start:]
        if any(word.startswith(tail) for word in words):
            return start
    return len(text)
