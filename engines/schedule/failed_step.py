"""What a step that failed takes with it beside its own sequences. Ints only."""

from collections.abc import Sequence as Seq

from engines.schedule.batch_plan import BatchPlan
from engines.schedule.sequence import Sequence


def spoilt_by(
    plan: BatchPlan, failed: Seq[Sequence], running: Seq[Sequence], *, behind: BatchPlan | None
) -> tuple[set[int], list[Sequence]]:
    """Return the pages that hold nothing now, and who of the others has computed from one of them.

    `failed` are the sequences of the step that still ran. `behind` is a step that was scheduled after it:
    what any of all these sequences was to fill in it holds nothing either, and so on for who shares that.
    """
    lost, filled_behind = set(plan.inserted_pages), set(behind.inserted_pages if behind else ())
    others: list[Sequence] = []
    spoilt = failed
    while True:
        lost |= filled_behind.intersection(page for one in spoilt for page in one.pages)
        known = {id(one) for one in (*failed, *others)}
        spoilt = [one for one in running if id(one) not in known and not lost.isdisjoint(one.pages)]
        if not spoilt:
            return lost, others
        others += spoilt
