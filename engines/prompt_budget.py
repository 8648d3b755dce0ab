"""How many prompt tokens a step may hold beside those that decode (LMDeploy 0.5.3's split-fuse rule)."""

from collections import deque

from engines.options import SchedulerOptions


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
            return options.max_prefill_token_num
        wanted = max(*self._shares, options.num_tokens_per_iter - num_decodes)
        return min(wanted, options.max_prefill_token_num)
