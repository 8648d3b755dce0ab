"""Which token comes next where a grammar leaves the model little to choose. Bits and ints only.

A grammar forces text, not tokens: `"total"` may be written in as many ways as a vocabulary can spell it, and
the model chooses one. Two things tell which: what answers of the same grammar chose before where just the
same tokens could come (the white space between keys as well as how each is spelled), and, where none came
this way yet, the longest token that begins the text which must come. Either may be wrong: a guess, to be
checked (`engines/schedule/speculation.py`).
"""

from collections.abc import Callable
from zlib import crc32

KEPT = 4096  # masks of one grammar; those noted first are forgotten first
# A token that was chosen under a mask is expected there again. After a mistake it must have been right twice
# more, and where mistakes go on, as inside a text that is free, eight times.
RIGHT, MOST_RIGHT, WRONG, MOST_WRONG = 1, 3, -2, -8


def mask_key(mask: bytes) -> int:
    """Return a number that stands for a mask; of two that share one a guess is wrong, and no answer."""
    return crc32(mask)


class LikelyTokens:
    """What answers of one grammar chose, by the mask that they chose under."""

    def __init__(self, spell: Callable[[str], list[int]]) -> None:
        """`spell` returns tokens of a text, each the longest that fits; fewer where it cannot go on."""
        self._spell = spell
        self._choices: dict[int, tuple[int, int]] = {}  # by mask: a token, and how sure it is, from 0 on

    def note(self, mask: int, token_id: int) -> None:
        """Take what was chosen under the mask of a key."""
        known, score = self._choices.get(mask, (token_id, -RIGHT))
        score = (
            min(score + RIGHT, MOST_RIGHT) if known == token_id else max(min(score, 0) + WRONG, MOST_WRONG)
        )
        self._choices[mask] = (token_id, score)
        if len(self._choices) > KEPT:
            del self._choices[next(iter(self._choices))]

    def behind(self, mask: bytes, key: int, forced: bytes) -> int | None:
        """Return the token that likely comes next; None where any may.

        `mask`: what may come, one bit an id, and its `mask_key`; `forced`: text that must come, empty where
        there is a choice.
        """
        token_id, score = self._choices.get(key, (-1, 0))
        if token_id < 0 and forced:
            spelled = self._spell(forced.decode(errors="ignore"))
            token_id = spelled[0] if spelled else -1
        if token_id < 0 or score < 0 or not mask[token_id // 8] >> token_id % 8 & 1:
            return None
        return token_id
