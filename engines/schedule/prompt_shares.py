"""How the prompt tokens of one step are shared out among the prompts that go on. Ints only.

Sequences ask by rank. Each has what is kept for its class of service (`service_classes.py`), and with it what
those before it have left.
"""

from collections.abc import Mapping

from engines.schedule.sequence import Sequence
from engines.schedule.tile_budget import TileBudget


class PromptShares:
    """The shares of one step."""

    def __init__(self, budget: int, *, kept: Mapping[int, int], tiles: TileBudget) -> None:
        """`budget`: prompt tokens of the step; `kept`: those of single sequences, by arrival."""
        self._kept = kept
        self._tiles = tiles
        self._spare = budget - sum(kept.values())

    def next(self, sequence: Sequence) -> int:
        """Return how many of its next tokens a prompt may compute; call it once a prompt, by rank."""
        self._spare += self._kept.get(sequence.arrival, 0)
        return self._tiles.tokens(sequence, min(sequence.num_pending, self._spare))

    def take(self, num_tokens: int) -> None:
        """Count what the prompt that asked last computes: the rest is for those behind it."""
        self._spare -= num_tokens
