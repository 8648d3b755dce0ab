import pytest
from scheduling import prompt_tokens, scheduler, sizes, step
from sequences import sequence

# --- admission and order


def test_nobody_here_means_no_step() -> None:
    assert scheduler().schedule(0.0) is None


def test_a_short_prompt_is_computed_at_once_and_then_decodes_token_by_token() -> None:
    engine, one = scheduler(), sequence([1, 2, 3], max_new_tokens=3)
    engine.add(one)
    plans = [step(engine) for _ in range(4)]
    assert [sizes(plan) for plan in plans] == [[(one.request_id, n)] for n in (3, 1, 1)] + [[]]
    assert [plan.num_decodes for plan in plans[:3] if plan] == [0, 1, 1]
    assert one.token_ids[3:] == [7, 7, 7]
    assert engine.pages_used == 0


def test_decodes_come_first_in_a_mixed_step() -> None:
    engine, first, second = scheduler(), sequence([1] * 5), sequence([2] * 6)
    engine.add(first)
    step(engine)
    engine.add(second)
    plan = step(engine)
    assert sizes(plan) == [(first.request_id, 1), (second.request_id, 6)]
    assert plan is not None and plan.num_decodes == 1


def test_max_batch_size_bounds_the_running_sequences() -> None:
    engine = scheduler(max_batch_size=2)
    for prompt in range(5):
        engine.add(sequence([prompt] * 3, max_new_tokens=2))
    seen = []
    while (plan := step(engine)) is not None:
        seen.append(len(plan.chunks))
    assert max(seen) == 2
    assert sum(seen) == 10


def test_a_lower_priority_number_runs_first_and_equals_in_order_of_arrival() -> None:
    engine = scheduler(max_batch_size=1)
    late, early, urgent = sequence([1], priority=1), sequence([2]), sequence([3])
    for one in (late, early, urgent):
        engine.add(one)
    order = []
    while (plan := step(engine)) is not None:
        name = plan.chunks[0].sequence.request_id
        order += [name] if name not in order else []
    assert order == [early.request_id, urgent.request_id, late.request_id]


def test_the_first_admission_is_noted_once() -> None:
    engine, one = scheduler(), sequence([1, 2])
    engine.add(one)
    engine.schedule(5.0)
    assert one.admitted_s == 5.0


# --- the budget of a step


def test_no_step_holds_more_prompt_tokens_than_max_prefill_token_num() -> None:
    engine = scheduler(max_prefill_token_num=16, prefix_caching=False)
    for start in range(3):
        engine.add(sequence([start] * 21, max_new_tokens=1))
    spent = []
    while (plan := step(engine)) is not None:
        spent.append(prompt_tokens(plan))
    assert spent == [16, 16, 16, 15]


def test_num_tokens_per_iter_bounds_a_step_with_its_decodes() -> None:
    engine = scheduler(num_tokens_per_iter=8, max_prefill_iters=100, prefix_caching=False)
    engine.add(sequence([1, 2], max_new_tokens=10))
    step(engine)
    engine.add(sequence([3] * 20, max_new_tokens=1))
    assert [prompt_tokens(step(engine)) for _ in range(3)] == [7, 7, 6]


@pytest.mark.parametrize(
    "num_iters, expected", [(1, [60]), (2, [30, 30]), (3, [20, 20, 20]), (7, [9] * 6 + [6])]
)
def test_max_prefill_iters_spreads_a_prompt_over_at_most_that_many_steps(
    num_iters: int, expected: list[int]
) -> None:
    engine = scheduler(num_tokens_per_iter=1, max_prefill_iters=num_iters)
    engine.add(sequence(list(range(60)), max_new_tokens=1))
    assert [prompt_tokens(step(engine)) for _ in expected] == expected
    assert step(engine) is None


def test_max_prefill_iters_holds_for_a_prompt_when_others_arrive_meanwhile() -> None:
    engine = scheduler(num_tokens_per_iter=1, max_prefill_iters=4, prefix_caching=False, num_pages=200)
    first = sequence([1] * 40, max_new_tokens=20)
    engine.add(first)
    step(engine)
    engine.add(sequence([2] * 60, max_new_tokens=1))
    engine.add(sequence([3] * 60, max_new_tokens=1))
    for _ in range(3):
        step(engine)
    assert first.num_outputs > 0


def test_the_growing_budget_never_exceeds_max_prefill_token_num() -> None:
    engine = scheduler(num_tokens_per_iter=1, max_prefill_iters=1, max_prefill_token_num=10)
    engine.add(sequence([1] * 25, max_new_tokens=1))
    assert [prompt_tokens(step(engine)) for _ in range(3)] == [10, 10, 5]


def test_more_decodes_than_num_tokens_per_iter_leave_prompts_moving() -> None:
    engine = scheduler(num_tokens_per_iter=2, max_prefill_iters=5)
    for start in range(3):
        engine.add(sequence([start], max_new_tokens=30))
    for _ in range(2):
        step(engine)
    late = sequence([9] * 10, max_new_tokens=1)
    engine.add(late)
    for _ in range(5):
        step(engine)
    assert late.num_outputs == 1


# --- pages


def test_a_sequence_that_surely_fits_is_never_preempted() -> None:
    engine = scheduler(num_pages=8, page_tokens=4, prefix_caching=False)
    for start in range(2):
        engine.add(sequence([start] * 4, max_new_tokens=12))
    while step(engine) is not None:
        pass
    assert engine.num_preemptions == 0


def test_more_are_admitted_than_the_worst_case_allows_and_the_last_is_preempted() -> None:
    engine = scheduler(num_pages=8, page_tokens=4, prefix_caching=False)
    first, second = (sequence([start] * 4, max_new_tokens=20) for start in range(2))
    engine.add(first)
    engine.add(second)
    assert len(sizes(step(engine))) == 2
    while step(engine) is not None:
        pass
    assert (first.num_preemptions, second.num_preemptions) == (0, 1)
    assert (first.num_outputs, second.num_outputs) == (20, 20)


def test_nobody_passes_the_head_of_the_queue() -> None:
    engine = scheduler(num_pages=8, page_tokens=4, prefix_caching=False)
    engine.add(sequence([1] * 16, max_new_tokens=8))
    step(engine)
    large, small = sequence([2] * 20, max_new_tokens=4), sequence([3], max_new_tokens=1)
    engine.add(large)
    engine.add(small)
    while large.admitted_s is None:
        plan = step(engine)
        assert plan is not None and (small.admitted_s is None or large.admitted_s is not None)


def test_an_urgent_sequence_takes_pages_from_one_that_is_not() -> None:
    engine = scheduler(num_pages=8, page_tokens=4, prefix_caching=False)
    patient = sequence([1] * 4, max_new_tokens=24, priority=5)
    engine.add(patient)
    step(engine)
    urgent = sequence([2] * 4, max_new_tokens=24, priority=0)
    engine.add(urgent)
    while step(engine) is not None:
        pass
    assert (patient.num_preemptions > 0, urgent.num_preemptions) == (True, 0)


def test_an_urgent_sequence_takes_the_slot_of_the_last_that_is_not() -> None:
    engine = scheduler(max_batch_size=2)
    first, second = (sequence([start] * 4, priority=5) for start in range(2))
    engine.add(first)
    engine.add(second)
    step(engine)
    urgent = sequence([3] * 4)
    engine.add(urgent)
    step(engine)
    assert engine.running == (urgent, first)
    equal = sequence([4] * 4)
    engine.add(equal)
    step(engine)
    assert engine.running == (urgent, equal)
    engine.add(sequence([5] * 4))
    step(engine)
    assert engine.running == (urgent, equal)


def test_a_sequence_longer_than_the_pool_is_a_bug_that_is_named() -> None:
    with pytest.raises(AssertionError, match="longer than the pool"):
        scheduler(num_pages=2, page_tokens=4).add(sequence([1] * 9, max_new_tokens=1))


# --- ends


def test_eos_ends_a_sequence_and_is_no_output() -> None:
    engine, one = scheduler(), sequence([1], eos_token_ids=(7,))
    engine.add(one)
    plan = engine.schedule(0.0)
    assert plan is not None
    [progress] = engine.commit(plan, [7])
    assert (progress.token_id, progress.finish_reason, progress.stop_token_id) == (None, "stop", 7)
    assert one.token_ids == [1]


def test_ignore_eos_goes_on_but_a_stop_id_still_ends() -> None:
    engine, one = scheduler(), sequence([1], eos_token_ids=(7,), stop_token_ids=(8,), ignore_eos=True)
    engine.add(one)
    step(engine, token=7)
    assert one.num_outputs == 1
    step(engine, token=8)
    assert engine.running == ()


def test_the_last_token_of_a_sequence_is_reported_with_its_end() -> None:
    engine, one = scheduler(), sequence([1], max_new_tokens=1)
    engine.add(one)
    plan = engine.schedule(0.0)
    assert plan is not None
    [progress] = engine.commit(plan, [7])
    assert (progress.token_id, progress.finish_reason) == (7, "length")


def test_a_sequence_can_be_removed_waiting_running_and_never() -> None:
    engine = scheduler(max_batch_size=1)
    running, waiting = sequence([1] * 6), sequence([2] * 6)
    engine.add(running)
    engine.add(waiting)
    step(engine)
    assert engine.remove(waiting.request_id) is waiting
    assert engine.remove(running.request_id) is running
    assert engine.remove(running.request_id) is None
    engine.check_integrity()
    assert (engine.pages_used, engine.num_waiting) == (0, 0)


def test_drain_takes_everybody_out() -> None:
    engine = scheduler(max_batch_size=1)
    both = [sequence([1] * 6), sequence([2] * 6)]
    for one in both:
        engine.add(one)
    step(engine)
    assert engine.drain() == both
    assert engine.pages_used == 0
    assert engine.schedule(0.0) is None
