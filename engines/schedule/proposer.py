"""Proposals for one sequence: from its own text, fewer or none for a while where they do not pay. Ints only.

How many: one more than twice what was right last time, as a wrong one costs a row and a right one saves one
step. Where what was right of late does not pay for a step with proposals: none, for twice as many tokens as
the last time that was so.
"""

from collections.abc import Sequence as Seq

from engines.schedule.prompt_lookup import PromptLookup

FIRST_PROPOSED = 3  # tokens of a sequence of which nothing is known yet
# Tokens: of a text that never repeats, one step in 33 has rows for nothing or waits for nothing.
FIRST_REST, LONGEST_REST = 2, 32


class Proposer:
    """The text of a sequence, and what its last proposals brought."""

    def __init__(self, *, match_tokens: int) -> None:
        self._lookup = PromptLookup(match_tokens)
        self._most = FIRST_PROPOSED
        self._gain = 1.0  # right tokens of its last steps with proposals, each counted half of the next
        self._rest = 0  # tokens without proposals after those that did not pay
        self._rests_until = 0  # length of the sequence
        self._is_awaited = False  # a step was held up for what would be proposed

    def expects(self, token_ids: Seq[int]) -> bool:
        """Tell whether it is worth while to wait for the token behind these: they stood here before."""
        self._is_awaited = len(token_ids) >= self._rests_until and bool(self._lookup.followers(token_ids, 1))
        return self._is_awaited

    def propose(self, token_ids: Seq[int], most: int) -> list[int]:
        """Return up to `most` tokens that may follow all these."""
        if len(token_ids) < self._rests_until:
            return []
        found = self._lookup.followers(token_ids, min(most, self._most))
        if self._is_awaited and not found:
            self._rest_on(len(token_ids))
        self._is_awaited = False
        return found

    def learn(self, num_accepted: int, *, price: float, length: int) -> None:
        """Take how many of the last proposals were right.

        `price`: how many tokens their step cost, its share; `length`: of the sequence since.
        """
        self._most = 2 * num_accepted + 1
        self._gain = (self._gain + num_accepted) / 2
        if self._gain < price:
            self._rest_on(length)
        else:
            self._rest = 0

    def _rest_on(self, length: int) -> None:
        self._rest = min(max(2 * self._rest, FIRST_REST), LONGEST_REST)
        self._rests_until = length + self._rest
