"""How many prompt tokens a step may hold beside those that decode (LMDeploy 0.5.3's split-fuse rule)."""

from collections import deque

from engines.options import SchedulerOptions

TILE_ROWS = 128  # of a matrix product on a GPU; one row past a tile costs as much as a tile


class PromptBudget:
    """The budget from step to step.

    `num_tokens_per_iter` is what a step holds in any case, `max_prefill_token_num` what it never exceeds.
    Between them, what is pending is spread over at most `max_prefill_iters` steps. The largest share of the
    last so many steps counts, so that a prompt keeps its pace while its own rest shrinks.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        self._options = options
        self._shares: deque[int] = deque(maxlen=options.max_prefill_iters)

    def next(self, pending: int, *, num_decodes: int) -> int:
        """Return the budget of the next step; call it once a step."""
        options = self._options
        self._shares.append(-(-pending // options.max_prefill_iters))
        if options.num_tokens_per_iter is None:
            return _whole_tiles(options.max_prefill_token_num, pending, num_decodes)
        wanted = max(*self._shares, options.num_tokens_per_iter - num_decodes)
        return min(wanted, options.max_prefill_token_num)


def _whole_tiles(budget: int, pending: int, num_decodes: int) -> int:
    """Return the budget with which a step that already holds a tile of decodes fills whole tiles.

    What is left of the prompts goes on in the next step, beside others that came meanwhile. One row stays
    free for what recordings fill up. Beside few decodes somebody waits for each prompt: it is not cut.
    """
    if num_decodes < TILE_ROWS:
        return budget
    rows = num_decodes + min(pending, budget)
    whole = rows // TILE_ROWS * TILE_ROWS - 1 - num_decodes
    return whole if whole > 0 else budget
