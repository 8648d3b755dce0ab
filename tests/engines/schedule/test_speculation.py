"""Tokens proposed from a sequence's own text: rows, pages, ends, and answers, which are those without."""

import random
from typing import Any

import pytest
from overlapped import Overlapped
from paged_memory import PagedMemory
from proposing import REPEATS, decoding, proposing, rows
from random_sequences import random_classes, random_heads, random_sequence
from scheduling import scheduler, step
from sequences import sequence

from engines.options import SpeculationOptions

# --- what is proposed


def test_what_stood_behind_the_last_tokens_before_is_a_row_each() -> None:
    one = sequence(REPEATS)
    plan = decoding(proposing(), one)
    assert rows(plan) == [(7, None), (8, 4), (9, 5), (10, 1)]
    assert (plan.num_decodes, plan.num_proposed, plan.sampled) == (4, 3, (0, 1, 2, 3))
    assert [chunk.num_outputs for chunk in plan.chunks] == [1, 2, 3, 4]
    assert (one.num_computed, one.num_tokens) == (8, 9)


def test_without_the_option_nothing_is_proposed() -> None:
    assert rows(decoding(scheduler(), sequence(REPEATS))) == [(7, None)]


def test_nobody_is_proposed_more_than_may_still_come() -> None:
    assert rows(decoding(proposing(), sequence(REPEATS, max_new_tokens=3))) == [(7, None), (8, 4)]
    assert rows(decoding(proposing(), sequence(REPEATS, max_new_tokens=2))) == [(7, None)]


def test_a_step_has_no_more_rows_than_sequences_may_run() -> None:
    first, second = sequence(REPEATS), sequence(REPEATS)
    plan = decoding(proposing(max_batch_size=4), first, second)
    assert rows(plan) == [(7, None), (8, 4), (9, 5), (7, None)]


def test_where_more_sequences_decode_nobody_is_proposed_anything() -> None:
    assert decoding(proposing(), *(sequence(REPEATS) for _ in range(3))).num_proposed == 0


def test_beside_prompts_nobody_is_proposed_anything() -> None:
    engine = proposing()
    engine.add(sequence(REPEATS))
    step(engine, 3)
    engine.add(sequence([8, 9]))
    plan = engine.schedule(0.0)
    assert plan is not None and (len(plan.chunks), plan.num_proposed) == (2, 0)


@pytest.mark.parametrize(
    "how",
    [
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"bad_sequences": ((1, 2),)},
    ],
)
def test_whose_choice_depends_on_the_tokens_before_is_proposed_nothing(how: dict[str, Any]) -> None:
    assert decoding(proposing(), sequence(REPEATS, **how)).num_proposed == 0


def test_choices_that_depend_on_their_place_alone_are_proposed() -> None:
    how: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "min_p": 0.1, "logprobs": 2}
    rest: dict[str, Any] = {"min_new_tokens": 2, "logit_bias": {4: 1.0}, "bad_sequences": ((9,),)}
    assert decoding(proposing(), sequence(REPEATS, **how, **rest)).num_proposed == 3


# --- what becomes of it


def test_each_row_that_chose_what_stands_behind_it_gives_one_token_more() -> None:
    engine, one = proposing(), sequence(REPEATS)
    plan = decoding(engine, one)
    found = engine.commit(plan, [4, 5, 9, 1])
    assert [item.token_id for item in found] == [4, 5, 9]
    assert one.token_ids == [*REPEATS, 3, 4, 5, 9]
    assert (one.num_computed, one.num_unknown) == (10, 0)
    assert (engine.speculation.num_proposed, engine.speculation.num_accepted) == (3, 2)
    engine.check_integrity()


def test_a_wrong_one_costs_its_row_and_no_token() -> None:
    engine, one = proposing(), sequence(REPEATS)
    plan = decoding(engine, one)
    assert [item.token_id for item in engine.commit(plan, [9, 5, 1, 2])] == [9]
    assert (engine.speculation.num_proposed, engine.speculation.num_accepted, one.num_computed) == (3, 0, 8)
    nothing = engine.schedule(0.0)
    assert nothing is not None and rows(nothing) == [(8, None)]


def test_an_end_among_the_proposed_tokens_ends_the_sequence_there() -> None:
    engine, one = proposing(), sequence(REPEATS, eos_token_ids=(5,))
    plan = decoding(engine, one)
    found = engine.commit(plan, [4, 5, 1, 2])
    assert [(item.token_id, item.finish_reason) for item in found] == [(4, None), (None, "stop")]
    assert (one.token_ids, engine.pages_used) == ([*REPEATS, 3, 4], 0)
    engine.check_integrity()


def test_rows_that_are_no_numbers_count_where_they_are_wanted() -> None:
    engine, one = proposing(), sequence(REPEATS)
    plan = decoding(engine, one)
    assert [item.finish_reason for item in engine.commit(plan, [9, None, None, None])] == [None]
    engine, one = proposing(), sequence(REPEATS)
    plan = decoding(engine, one)
    assert [item.finish_reason for item in engine.commit(plan, [4, None, 1, 1])] == [None, "error"]


def test_the_results_of_an_aborted_sequence_are_dropped_with_all_its_rows() -> None:
    engine, one, other = proposing(), sequence(REPEATS), sequence(REPEATS)
    plan = decoding(engine, one, other)
    engine.remove(one.request_id)
    assert {item.sequence for item in engine.commit(plan, [4] * len(plan.sampled))} == {other}
    engine.check_integrity()


def test_a_step_that_fails_names_each_sequence_once() -> None:
    engine, one = proposing(), sequence(REPEATS)
    plan = decoding(engine, one)
    assert engine.fail(plan) == [one]
    assert engine.pages_used == 0


# --- pages


def test_proposals_take_pages_that_nobody_holds_and_no_others() -> None:
    engine = proposing(num_pages=4, page_tokens=8, prefix_caching=False, max_batch_size=8, match_tokens=5)
    text = [place % 5 + 1 for place in range(40)]
    plan = decoding(engine, *(sequence(text[:7], max_new_tokens=20) for _ in range(2)))
    starts = []
    while engine.num_preemptions == 0:
        starts.append([chunk.start for chunk in plan.chunks])
        engine.commit(plan, [text[chunk.end] for chunk in plan.chunks])
        engine.check_integrity()
        following = engine.schedule(0.0)
        assert following is not None
        plan = following
    assert starts == [[7, 7], [8, 8], [9, 10, 11, 12, 9, 10, 11, 12], [13, 14, 15, 13, 14, 15]]


def test_no_prompt_finds_a_page_with_tokens_that_were_refused() -> None:
    engine, one = proposing(page_tokens=2), sequence(REPEATS, max_new_tokens=9)
    plan = decoding(engine, one)
    engine.commit(plan, [9, 5, 1, 2])
    engine.remove(one.request_id)
    assert engine.pages_cached == 4  # [1, 2], [3, 4], [5, 1], [2, 3]
    refused = sequence([*REPEATS, 3, 4, 5, 1])
    engine.add(refused)
    engine.schedule(0.0)
    assert refused.cached_tokens == 8


# --- steps under way


def test_a_step_waits_for_tokens_where_some_may_be_proposed_and_only_there() -> None:
    engine, one = proposing(), sequence(REPEATS)
    engine.add(one)
    prompt = engine.schedule(0.0)
    assert prompt is not None and engine.waits_for(prompt)  # 1, 2 stood there before
    engine.commit(prompt, [9])
    new = engine.schedule(0.0)
    assert new is not None and not engine.waits_for(new)
    assert not scheduler().waits_for(prompt)


def test_a_step_with_proposals_is_always_waited_for() -> None:
    engine = proposing()
    assert engine.waits_for(decoding(engine, sequence(REPEATS)))


# --- everything at once


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_any_mix_gives_the_reference_output_and_leaves_no_page(seed: int, overlaps: bool) -> None:
    dice = random.Random(3000 + seed)
    page_tokens = dice.choice([1, 2, 4, 8])
    num_pages = max(dice.randrange(12, 40), 48 // page_tokens)
    options = {
        "max_batch_size": dice.randrange(2, 9),
        "max_prefill_token_num": dice.choice([5, 16, 64]),
        "num_tokens_per_iter": dice.choice([None, 9]),
        "max_prefill_iters": dice.randrange(1, 5),
        "classes": random_classes(dice) if seed % 2 else (),
    }
    how = SpeculationOptions(
        num_tokens=dice.randrange(1, 6), match_tokens=1, max_sequences=dice.randrange(1, 9), grammar_tokens=0
    )
    engine = scheduler(
        num_pages=num_pages,
        page_tokens=page_tokens,
        prefix_caching=dice.random() < 0.8,
        speculation=how,
        **options,
    )
    run = Overlapped(engine, PagedMemory(num_pages, page_tokens))
    heads = random_heads(dice)
    classes = max(len(options["classes"]), 1)
    expected = [random_sequence(dice, heads, 48, num_classes=classes) for _ in range(20)]
    run.run_mix(expected, dice, options, arrives=0.2, leaves=0.02, settles=lambda: not overlaps)


def test_ten_thousand_steps_with_proposals_leave_no_page() -> None:
    dice = random.Random(6)
    engine = proposing(
        num_pages=24,
        page_tokens=4,
        max_batch_size=12,
        max_prefill_token_num=24,
        match_tokens=1,
        max_sequences=6,
    )
    run = Overlapped(engine, PagedMemory(24, 4))
    run.run_stream(
        dice,
        arrives=lambda: engine.num_running + engine.num_waiting < 5 and dice.random() < 0.3,
        leaves=0.01,
        breaks=0.003,
    )
    assert engine.num_preemptions > 20
    assert 300 < engine.speculation.num_accepted < engine.speculation.num_proposed
