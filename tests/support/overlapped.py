"""A scheduler whose steps are scheduled before the results of the last one are taken."""

from dataclasses import dataclass, field

from paged_memory import PagedMemory

from engines.schedule.batch_plan import BatchPlan
from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import Sequence


@dataclass
class Overlapped:
    """A scheduler and a device that is one step ahead of what the scheduler has been told."""

    engine: Scheduler
    memory: PagedMemory
    ended: set[Sequence] = field(default_factory=set)
    failed: set[Sequence] = field(default_factory=set)
    under_way: tuple[BatchPlan, list[int] | None] | None = None

    def turn(self, *, breaks: bool = False) -> BatchPlan | None:
        """Schedule and run the next step, then take the results of the one before it, or take them first."""
        if self.under_way is not None and self.engine.waits_for(self.under_way[0]):
            self.settle()
        plan = self.engine.schedule(0.0)
        self.engine.check_integrity()
        tokens = None
        if plan is not None and breaks:
            self.memory.spoil(plan)
        elif plan is not None:
            failed = self.under_way is not None and self.under_way[1] is None
            tokens = self.memory.run(plan, after_failure=failed)
        self.settle(behind=plan)
        self.under_way = None if plan is None else (plan, tokens)
        return plan

    def settle(self, *, behind: BatchPlan | None = None) -> None:
        """Take the results of the step under way."""
        if self.under_way is None:
            return
        plan, tokens = self.under_way
        self.under_way = None
        if tokens is None:
            self.failed |= set(self.engine.fail(plan, behind=behind))
        else:
            done = self.engine.commit(plan, tokens)
            self.ended |= {one.sequence for one in done if one.finish_reason is not None}
        self.engine.check_integrity()
