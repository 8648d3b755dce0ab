"""Schedulers for tests: short ways to make one, to run a step, and to read a plan."""

from dataclasses import replace
from typing import Any

from engines.options import SchedulerOptions
from engines.schedule.batch_plan import BatchPlan
from engines.schedule.grammar_pace import ALONE, StepPrices
from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import ImageSlots

OPTIONS = SchedulerOptions(
    max_batch_size=4,
    max_prefill_token_num=64,
    num_tokens_per_iter=None,
    max_prefill_iters=1,
    tiles_per_iter=None,
    session_len=None,
    classes=(),
    speculation=None,
)


def scheduler(
    *,
    num_pages: int = 64,
    page_tokens: int = 4,
    prefix_caching: bool = True,
    prices: StepPrices = ALONE,
    **changes: Any,
) -> Scheduler:
    return Scheduler(
        replace(OPTIONS, **changes),
        num_pages=num_pages,
        page_tokens=page_tokens,
        prefix_caching=prefix_caching,
        prices=prices,
    )


def step(engine: Scheduler, token: int = 7) -> BatchPlan | None:
    """Run one step that samples the same token everywhere."""
    plan = engine.schedule(0.0)
    if plan is not None:
        engine.commit(plan, [token] * len(plan.sampling))
        engine.check_integrity()
    return plan


def sizes(plan: BatchPlan | None) -> list[tuple[str, int]]:
    return [] if plan is None else [(chunk.sequence.request_id, chunk.num_tokens) for chunk in plan.chunks]


def prompt_tokens(plan: BatchPlan | None) -> int:
    return 0 if plan is None else sum(chunk.num_tokens for chunk in plan.chunks[plan.num_decodes :])


def image(key: bytes, start: int, num_tokens: int) -> ImageSlots:
    return ImageSlots(key=key * 16, start=start, num_tokens=num_tokens, pixels=None)
