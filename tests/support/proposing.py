"""Schedulers that propose tokens, and what they plan."""

from dataclasses import replace
from typing import Any

from scheduling import scheduler, step

from engines.options import SpeculationOptions
from engines.schedule.batch_plan import BatchPlan
from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import Sequence

HOW = SpeculationOptions(num_tokens=3, match_tokens=2, max_sequences=2, grammar_tokens=0)
REPEATS = [1, 2, 3, 4, 5, 1, 2]


def proposing(**changes: Any) -> Scheduler:
    how = {name: changes.pop(name) for name in tuple(changes) if name in SpeculationOptions.__slots__}
    return scheduler(speculation=replace(HOW, **how), **changes)


def decoding(engine: Scheduler, *sequences: Sequence, token: int = 3) -> BatchPlan:
    """Compute the prompts, with this token after each; return the next step."""
    for one in sequences:
        engine.add(one)
    step(engine, token)
    plan = engine.schedule(0.0)
    assert plan is not None
    return plan


def rows(plan: BatchPlan) -> list[tuple[int, int | None]]:
    return [(chunk.start, chunk.proposed) for chunk in plan.chunks]
