"""Classes of service in the scheduler: what each is owed under load, and that nobody starves."""

from collections import Counter

import pytest
from scheduling import prompt_tokens, scheduler, step
from sequences import sequence

from engines.options import ServiceClass
from engines.schedule.scheduler import Scheduler
from engines.schedule.sequence import Sequence


def classes(*shares: float) -> tuple[ServiceClass, ...]:
    """Classes by falling priority."""
    return tuple(ServiceClass(name=f"c{i}", priority=i, share=share) for i, share in enumerate(shares))


def of_class(number: int, prompt: list[int] | None = None, **changes: int) -> Sequence:
    return sequence(prompt or [number + 1] * 3, priority=number, service_class=number, **changes)


def flood(engine: Scheduler, number: int, *, count: int = 40, **changes: int) -> None:
    for _ in range(count):
        engine.add(of_class(number, **changes))


def tokens_by_class(engine: Scheduler, *, steps: int) -> Counter[int]:
    """Run steps; return the rows that each class had in them."""
    found: Counter[int] = Counter()
    for _ in range(steps):
        plan = step(engine)
        assert plan is not None
        found.update(chunk.sequence.service_class for chunk in plan.chunks)
    return found


def test_a_class_that_floods_leaves_the_others_their_slots_and_takes_the_rest_by_priority() -> None:
    engine = scheduler(max_batch_size=8, num_pages=400, classes=classes(0.25, 0.25, 0.25))
    for number in range(3):
        flood(engine, number)
    step(engine)
    assert engine.by_class() == ((4, 2, 2), (36, 38, 38))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_neither_a_high_nor_a_low_class_that_came_first_starves_the_other(first: int, second: int) -> None:
    engine = scheduler(max_batch_size=8, num_pages=400, classes=classes(0.5, 0.25))
    flood(engine, first, max_new_tokens=20)
    tokens_by_class(engine, steps=5)
    flood(engine, second, max_new_tokens=20)
    step(engine)
    found = tokens_by_class(engine, steps=60)
    # What is owed, at least; what nobody is owed is of the higher class.
    assert found[0] / found.total() == pytest.approx(0.75, abs=0.03)
    assert found[1] / found.total() == pytest.approx(0.25, abs=0.03)


def test_what_a_class_does_not_use_is_lent_and_taken_back_at_once() -> None:
    engine = scheduler(max_batch_size=4, classes=classes(0.5, 0.5))
    flood(engine, 1, count=4, max_new_tokens=50)
    step(engine)
    assert engine.by_class()[0] == (0, 4)
    engine.add(of_class(0))
    engine.add(of_class(0))
    step(engine)
    assert engine.by_class()[0] == (2, 2)
    assert engine.num_preemptions == 2


def test_a_class_never_takes_what_another_is_owed() -> None:
    engine = scheduler(max_batch_size=4, classes=classes(0.5, 0.5))
    flood(engine, 1, count=2, max_new_tokens=30)
    flood(engine, 0, max_new_tokens=30)
    for _ in range(20):
        step(engine)
        assert engine.by_class()[0] == (2, 2)
    assert engine.num_preemptions == 0


def test_within_a_class_who_came_first_runs_first() -> None:
    engine = scheduler(max_batch_size=2, classes=classes(0.5, 0.5))
    crowd = [of_class(number, max_new_tokens=2) for number in (1, 0, 1, 0, 1, 0)]
    for one in crowd:
        engine.add(one)
    ended: list[Sequence] = []
    while (plan := step(engine)) is not None:
        ended += [chunk.sequence for chunk in plan.chunks if chunk.sequence.has_ended]
    for number in (0, 1):
        mine = [one.arrival for one in ended if one.service_class == number]
        assert mine == sorted(mine)
        assert len(mine) == 3


def test_a_long_prompt_of_one_class_leaves_another_its_part_of_every_step() -> None:
    engine = scheduler(max_prefill_token_num=16, classes=classes(0.75, 0.25), prefix_caching=False)
    engine.add(of_class(0, [1] * 100, max_new_tokens=1))
    engine.add(of_class(1, [2] * 100, max_new_tokens=1))
    for _ in range(8):
        plan = step(engine)
        assert plan is not None and prompt_tokens(plan) == 16
        assert [chunk.num_tokens for chunk in plan.chunks] == [12, 4]


def test_prompt_tokens_that_one_class_leaves_go_to_the_other() -> None:
    engine = scheduler(max_prefill_token_num=16, classes=classes(0.75, 0.25), prefix_caching=False)
    engine.add(of_class(0, [1] * 2, max_new_tokens=1))
    engine.add(of_class(1, [2] * 100, max_new_tokens=1))
    plan = step(engine)
    assert plan is not None and [chunk.num_tokens for chunk in plan.chunks] == [2, 14]


def test_pages_are_taken_from_the_class_that_holds_more_than_its_slots() -> None:
    engine = scheduler(max_batch_size=4, num_pages=10, page_tokens=4, classes=classes(0.25, 0.5))
    high = [of_class(0, [1, 2, 3 + i], max_new_tokens=14) for i in range(3)]
    low = of_class(1, [9] * 3, max_new_tokens=14)
    for one in (*high, low):
        engine.add(one)
    while low.num_outputs < 13 and step(engine) is not None:
        assert low.num_preemptions == 0
    assert engine.num_preemptions > 0


def test_a_class_that_is_owed_nothing_runs_where_there_is_room() -> None:
    engine = scheduler(max_batch_size=2, max_prefill_token_num=1, classes=classes(1.0, 0.0))
    engine.add(of_class(1))
    flood(engine, 0, count=3, max_new_tokens=2)
    ended = set()
    while (plan := step(engine)) is not None:
        ended |= {chunk.sequence.arrival for chunk in plan.chunks if chunk.sequence.has_ended}
    assert len(ended) == 4
