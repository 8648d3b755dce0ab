"""Steps that are scheduled before the results of the last one are taken."""

import random

import pytest
from overlapped import Overlapped
from paged_memory import PagedMemory
from random_sequences import random_heads, random_sequence
from scheduling import scheduler, sizes
from sequences import sequence

# --- what one step may count on


def test_a_step_counts_on_the_token_that_the_last_one_samples() -> None:
    engine, one = scheduler(), sequence([1, 2, 3], max_new_tokens=3)
    engine.add(one)
    first = engine.schedule(0.0)
    second = engine.schedule(0.0)
    assert first is not None and second is not None
    assert (sizes(second), second.num_decodes) == ([(one.request_id, 1)], 1)
    assert (first.chunks[0].source_row, second.chunks[0].source_row) == (None, 0)
    assert (one.token_ids, one.num_tokens) == ([1, 2, 3], 5)
    engine.commit(first, [7])
    engine.commit(second, [8])
    assert one.token_ids == [1, 2, 3, 7, 8]


def test_a_sequence_that_waits_for_its_last_token_takes_no_further_step() -> None:
    engine, one = scheduler(), sequence([1, 2, 3], max_new_tokens=1)
    engine.add(one)
    plan = engine.schedule(0.0)
    assert plan is not None
    assert engine.schedule(0.0) is None
    assert engine.num_running == 1
    [progress] = engine.commit(plan, [7])
    assert (progress.finish_reason, engine.pages_used) == ("length", 0)


def test_a_token_of_a_sequence_that_had_stopped_is_dropped() -> None:
    engine, one, other = scheduler(), sequence([1], eos_token_ids=(7,)), sequence([2])
    engine.add(one)
    engine.add(other)
    first, second = engine.schedule(0.0), engine.schedule(0.0)
    assert first is not None and second is not None
    stopped, goes_on = engine.commit(first, [7, 8])
    assert (stopped.finish_reason, goes_on.finish_reason) == ("stop", None)
    [progress] = engine.commit(second, [5, 6])
    assert (progress.row, progress.sequence, progress.token_id) == (1, other, 6)
    assert one.token_ids == [1]


def test_a_page_with_an_unknown_token_is_shared_once_it_is_known() -> None:
    engine = scheduler(page_tokens=2)
    one = sequence([1, 2, 3], max_new_tokens=9, eos_token_ids=(9,))
    engine.add(one)
    first = engine.schedule(0.0)
    second = engine.schedule(0.0)  # computes the unknown fourth token, which fills a page
    assert first is not None and second is not None
    assert (first.inserted_pages, second.inserted_pages) == ((one.pages[0],), ())
    engine.commit(first, [4])
    engine.commit(second, [9])
    assert engine.pages_cached == 2
    later = sequence([1, 2, 3, 4, 5])
    engine.add(later)
    engine.schedule(0.0)
    assert later.cached_tokens == 4


def test_numbers_that_are_none_are_not_found_again_where_their_sequence_was_preempted() -> None:
    engine = scheduler(num_pages=4, page_tokens=2)
    urgent, one = sequence([8], max_new_tokens=7), sequence([1, 2, 3, 4], max_new_tokens=2)
    engine.add(one)
    first = engine.schedule(0.0)
    urgent.priority = -1
    engine.add(urgent)
    while one.num_preemptions == 0:
        plan = engine.schedule(0.0)
        assert plan is not None
        if one.num_preemptions == 0:
            engine.commit(plan, [7] * len(plan.sampled))
        if first is not None:
            break
    assert first is not None
    engine.check_integrity()
    [progress] = engine.commit(first, [None])
    assert progress.finish_reason == "error"
    engine.check_integrity()
    assert engine.pages_cached == 0


# --- faults


def test_a_step_that_fails_takes_with_it_what_the_next_one_was_to_fill_for_its_sequences() -> None:
    engine = scheduler(page_tokens=2, max_prefill_token_num=4)
    one, other = sequence([1] * 8), sequence([1] * 8)
    engine.add(one)
    first = engine.schedule(0.0)
    engine.add(other)  # shares the first two pages of `one`, which the first step was to fill
    second = engine.schedule(0.0)
    assert first is not None and second is not None
    assert other.cached_tokens > 0
    assert engine.fail(first, behind=second) == [one]
    engine.check_integrity()
    assert (engine.num_waiting, other.num_computed, engine.pages_cached) == (1, 0, 0)
    assert engine.commit(second, [5] * len(second.sampled)) == []
    assert other.token_ids == [1] * 8


# --- everything at once


@pytest.mark.parametrize("seed", range(60))
def test_any_mix_with_a_step_under_way_gives_the_reference_output_and_leaves_no_page(seed: int) -> None:
    dice = random.Random(1000 + seed)
    page_tokens = dice.choice([1, 2, 4, 8])
    num_pages = max(dice.randrange(12, 40), 48 // page_tokens)
    options = {
        "max_batch_size": dice.randrange(1, 7),
        "max_prefill_token_num": dice.choice([1, 5, 16, 64]),
        "num_tokens_per_iter": dice.choice([None, 1, 9]),
        "max_prefill_iters": dice.randrange(1, 5),
    }
    engine = scheduler(
        num_pages=num_pages, page_tokens=page_tokens, prefix_caching=dice.random() < 0.8, **options
    )
    run = Overlapped(engine, PagedMemory(num_pages, page_tokens))
    heads = random_heads(dice)
    expected = [random_sequence(dice, heads, 48) for _ in range(30)]
    # settled now and then, as where a next token needs the last one
    run.run_mix(expected, dice, options, arrives=0.4, leaves=0.03, settles=lambda: dice.random() < 0.2)


def test_ten_thousand_steps_of_arrivals_without_end_leave_no_page() -> None:
    dice = random.Random(5)
    engine = scheduler(num_pages=40, page_tokens=4, max_batch_size=6, max_prefill_token_num=24)
    run = Overlapped(engine, PagedMemory(40, 4))
    run.run_stream(dice, arrives=lambda: engine.num_waiting < 4, leaves=0.02, breaks=0.005)
    assert engine.num_preemptions > 100
    assert sum(one.cached_tokens for one in run.ended) > 1000
