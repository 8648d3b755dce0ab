"""A scheduler whose steps are scheduled before the results of the last one are taken."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paged_memory import PagedMemory
from random_sequences import check_plan, random_heads, random_sequence, reference_output

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

    def run_mix(
        self,
        expected: list[Sequence],
        dice: random.Random,
        options: dict[str, Any],
        *,
        arrives: float,
        leaves: float,
        settles: Callable[[], bool],
    ) -> None:
        """Run sequences to their ends: each gives the reference output, left or failed, and no page is kept.

        `arrives`, `leaves`: chances a step that the next one is added and that one is taken back; `settles`:
        whether results are taken before the next step is scheduled. `options`: the scheduler's.
        """
        queue, gone = list(expected), set[Sequence]()
        for _ in range(20_000):
            alive = set(expected) - set(queue) - gone - self.ended - self.failed
            if not queue and not alive and self.under_way is None:
                break
            while queue and dice.random() < arrives:
                alive.add(queue[-1])
                self.engine.add(queue.pop())
            if alive and dice.random() < leaves:
                one = dice.choice(sorted(alive, key=lambda one: one.arrival))
                assert self.engine.remove(one.request_id) is one
                gone.add(one)
            plan = self.turn(breaks=dice.random() < 0.02)
            if plan is not None:
                check_plan(plan, options)
            if settles():
                self.settle()
        assert not queue and gone | self.ended | self.failed == set(expected), "somebody starved"
        self.check_ended()

    def run_stream(
        self, dice: random.Random, *, arrives: Callable[[], bool], leaves: float, breaks: float
    ) -> None:
        """Run 10,000 steps of arrivals without end, then all to their ends, which are held as in `run_mix`.

        `arrives`: whether one comes now; `leaves`, `breaks`: chances a step that one is taken back, or fails.
        """
        heads = random_heads(dice)
        added, gone = set[Sequence](), set[Sequence]()
        steps = 0
        while steps < 10_000:
            if arrives():
                one = random_sequence(dice, heads, 48)
                added.add(one)
                self.engine.add(one)
            if dice.random() < leaves and self.engine.running:
                one = dice.choice(self.engine.running)
                self.engine.remove(one.request_id)
                gone.add(one)
            steps += self.turn(breaks=dice.random() < breaks) is not None
        while self.engine.num_running or self.engine.num_waiting or self.under_way:
            self.turn()
        assert gone | self.ended | self.failed == added
        self.check_ended()

    def check_ended(self) -> None:
        """Nothing runs, waits or is held, and what ended has the reference output."""
        engine = self.engine
        assert (engine.pages_used, engine.num_running, engine.num_waiting) == (0, 0, 0)
        for one in self.ended:
            assert one.token_ids[one.num_prompt_tokens :] == reference_output(one)
