"""Steps whose tokens are chosen once the last ones are known, while the next network is under way."""

import random
import re
from typing import Any

import llguidance
import pytest
from loop_engine import LoopEngine
from printable import END_ID, text_of
from watched_runner import WatchedRunner

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Abort, Done
from engines.options import SpeculationOptions

REGEX = llguidance.grammar_from("regex", "([A-C]{3}-[0-9]{2,4};){1,9}")


def held(**how: Any) -> dict[str, Any]:
    """Ways to sample that follow the grammar."""
    return {"grammar": REGEX, "eos_token_ids": (END_ID,), "max_new_tokens": 40, "temperature": 1.0} | how


def random_request(dice: random.Random) -> tuple[list[int], dict[str, Any]]:
    """A prompt of up to several chunks and pages, and any way to choose tokens; every other has a grammar."""
    prompt = [dice.randrange(1, 60) for _ in range(dice.choice([3, 9, 30]))]
    how: dict[str, Any] = {
        "max_new_tokens": dice.randrange(1, 40),
        "temperature": dice.choice([0.0, 0.8, 1.0]),
        "top_k": dice.choice([0, 5]),
        "seed": dice.randrange(99),
        "logprobs": dice.choice([None, None, 2]),
        "frequency_penalty": dice.choice([0.0, 0.0, 0.5]),
        "logit_bias": dice.choice([{}, {33: 2.0}]),
    }
    if dice.random() < 0.5:
        return prompt, held(**how)
    return prompt, how | {
        "bad_sequences": dice.choice([(), ((5,),), ((5, 6), (7, 8))]),
        "min_new_tokens": dice.choice([0, 1]),
        "eos_token_ids": (dice.randrange(1, 60),),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_batch_size": 2},
        {"num_pages": 14, "max_prefill_token_num": 16},
        {"speculation": SpeculationOptions(num_tokens=4, match_tokens=2, max_sequences=3, grammar_tokens=0)},
        {"speculation": SpeculationOptions(num_tokens=0, match_tokens=2, max_sequences=3, grammar_tokens=4)},
        {"speculation": SpeculationOptions(num_tokens=3, match_tokens=2, max_sequences=3, grammar_tokens=4)},
    ],
    ids=["wide", "narrow", "short of pages", "proposing", "proposing by grammars", "proposing by both"],
)
def test_answers_are_those_of_steps_in_turn(pixels: PixelFiles, changes: dict[str, Any]) -> None:
    dice = random.Random(5)
    turns = LoopEngine(pixels, overlap=False, **{**changes, "speculation": None})
    late = LoopEngine(pixels, overlap=True, **changes)
    for _ in range(12):
        requests = [random_request(dice) for _ in range(dice.randrange(1, 8))]
        names = [(turns.submit(prompt, **how), late.submit(prompt, **how)) for prompt, how in requests]
        turns.run()
        late.run()
        for wanted, found in names:
            assert late.tokens[found] == turns.tokens[wanted]
            assert late.done(found).finish_reason == turns.done(wanted).finish_reason
            scores = [
                [one.chosen for one in engine.logprobs[name]]
                for engine, name in ((late, found), (turns, wanted))
            ]
            assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert changes.get("num_pages") is None or late.loop.stats().preemptions > 0


def test_networks_are_launched_before_tokens_are_taken_and_choices_after(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    one.submit([1, 2, 3], **held(max_new_tokens=3))
    one.submit([4, 5], max_new_tokens=3)
    one.run()
    assert runner.calls == [*("launch", "choose"), *("launch", "fetch", "choose") * 2, "fetch"]


def test_steps_without_a_grammar_among_them_leave_nothing_for_later(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    one.submit([1, 2, 3], logprobs=1, logit_bias={3: 1.0}, min_new_tokens=2, max_new_tokens=4)
    one.run()
    assert "choose" not in runner.calls


def test_an_end_that_only_the_device_knew_costs_a_row_and_asks_for_no_mask(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    other = one.submit([7, 8], max_new_tokens=40)
    name = one.submit([1, 2, 3], **held(grammar=llguidance.grammar_from("regex", "[a-z]{4}")))
    grammars = [one.loop._scheduler._queues.waiting[-1].grammar]
    one.run()
    assert re.fullmatch("[a-z]{4}", text_of(one.tokens[name]))
    assert one.done(name).finish_reason == "stop" and one.done(other).finish_reason == "length"
    assert grammars[0] is not None and grammars[0].fault is None
    assert grammars[0]._num_taken == 4


def test_a_lost_result_fails_its_sequences_and_a_grammar_that_came_later_goes_on(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    alone = LoopEngine(pixels, overlap=False)
    expected = alone.submit([4, 5, 6], **held(seed=3))
    alone.run()
    bad = one.submit([1, 2, 3], **held())
    one.step()
    good = one.submit([4, 5, 6], **held(seed=3))
    runner.failing_fetch = 1
    one.run()
    assert one.failed(bad).code == "engine_error"
    assert one.tokens[good] == alone.tokens[expected]


def test_a_lost_choice_fails_the_sequences_of_its_step_and_the_next_ones_run(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    runner = WatchedRunner.of(one)
    names = [one.submit([1, 2, 3], **held()), one.submit([4, 5], max_new_tokens=9)]
    runner.failing_choose = 3
    one.run()
    assert [len(one.tokens[name]) for name in names] == [2, 2], "what came before is told"
    assert {one.failed(name).code for name in names} == {"engine_error"}
    later = one.submit([1, 2, 3], **held())
    one.run()
    assert isinstance(one.ends[later], Done)


def test_a_sequence_that_is_aborted_with_a_step_under_way_gets_nothing_more(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True)
    name, other = one.submit([1, 2, 3], **held()), one.submit([4, 5], **held(seed=9))
    for _ in range(3):
        one.step()
    one.take(one.loop.abort(Abort(request_id=name)))
    one.run()
    assert len(one.tokens[name]) == one.done(name).usage.output_tokens == 2
    assert one.done(other).finish_reason in ("stop", "length")
