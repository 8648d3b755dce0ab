"""A loop that proposes tokens answers what one without proposals answers, in fewer steps."""

import json
import random
from dataclasses import replace
from typing import Any

import llguidance
import pytest
from loop_engine import LoopEngine
from printable import END_ID, ids_of

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Abort
from engines.options import SpeculationOptions

HOW = SpeculationOptions(num_tokens=4, match_tokens=2, max_sequences=4, grammar_tokens=0)


def random_request(dice: random.Random) -> tuple[list[int], dict[str, Any]]:
    """A prompt of few words, and any way to choose tokens."""
    prompt = [dice.randrange(1, 60) for _ in range(dice.randrange(2, 12))] * dice.randrange(1, 3)
    how: dict[str, Any] = {
        "max_new_tokens": dice.randrange(1, 40),
        "temperature": dice.choice([0.0, 0.0, 0.7]),
        "top_p": dice.choice([1.0, 0.9]),
        "seed": dice.randrange(99),
        "eos_token_ids": (dice.randrange(1, 60),),
        "min_new_tokens": dice.choice([0, 0, 6]),
        "logit_bias": dice.choice([{}, {3: 2.0}]),
        "logprobs": dice.choice([None, None, 2]),
        "repetition_penalty": dice.choice([1.0, 1.0, 1.0, 1.2]),
        "bad_sequences": dice.choice([(), (), ((5,),), ((5, 6),)]),
    }
    return prompt, how


@pytest.mark.parametrize("overlap", [False, True])
def test_answers_greedy_and_drawn_are_the_same_tokens(pixels: PixelFiles, overlap: bool) -> None:
    dice = random.Random(1)
    plain = LoopEngine(pixels, overlap=overlap)
    proposing = LoopEngine(pixels, overlap=overlap, speculation=HOW)
    for _ in range(25):
        requests = [random_request(dice) for _ in range(dice.randrange(1, 5))]
        names = [(plain.submit(prompt, **how), proposing.submit(prompt, **how)) for prompt, how in requests]
        plain.run()
        proposing.run()
        for wanted, found in names:
            assert proposing.tokens[found] == plain.tokens[wanted]
            ends = proposing.done(found), plain.done(wanted)
            assert ends[0].finish_reason == ends[1].finish_reason
            assert ends[0].stop_token_id == ends[1].stop_token_id
            scores = [
                [(one.chosen, *one.top_logprobs) for one in engine.logprobs[name]]
                for engine, name in ((proposing, found), (plain, wanted))
            ]
            assert scores[0] == [pytest.approx(one, abs=1e-4) for one in scores[1]]
    wanted, found = plain.loop.stats(), proposing.loop.stats()
    assert found.output_tokens == wanted.output_tokens
    assert 100 < found.accepted_tokens < found.proposed_tokens
    assert found.steps < wanted.steps
    assert (wanted.proposed_tokens, wanted.accepted_tokens) == (0, 0)


@pytest.mark.parametrize("overlap", [False, True])
def test_answers_that_follow_a_grammar_are_the_same_too(pixels: PixelFiles, overlap: bool) -> None:
    engines = [LoopEngine(pixels, overlap=overlap, speculation=how) for how in (None, HOW)]
    for pattern in ("[ab]{4,40}", "([a-c]x){3,20}", "(abc ){5,9}z", "a*"):
        grammar = llguidance.grammar_from("regex", pattern)
        names = [
            [
                one.submit(
                    [1, 2, 3 + seed], grammar=grammar, seed=seed, temperature=temperature, max_new_tokens=60,
                    eos_token_ids=(END_ID,), logprobs=1,
                )
                for seed in range(2) for temperature in (0.0, 1.0)
            ]
            for one in engines
        ]  # fmt: skip
        for one in engines:
            one.run()
        for wanted, found in zip(*names, strict=True):
            assert engines[1].tokens[found] == engines[0].tokens[wanted]
            assert engines[1].done(found).finish_reason == engines[0].done(wanted).finish_reason
    assert engines[1].loop.stats().accepted_tokens > 50
    assert engines[1].loop.stats().steps < engines[0].loop.stats().steps


FORM = {
    "type": "object", "properties": {
        "total": {"type": "integer"}, "items": {
            "type": "array", "maxItems": 4, "items": {
                "type": "object",
                "properties": {"name": {"enum": ["tea", "ale"]}, "price": {"type": "integer"}},
                "required": ["name", "price"], "additionalProperties": False,
            },
        }, "note": {"type": "string", "maxLength": 5},
    }, "required": ["total", "items"], "additionalProperties": False,
}  # fmt: skip
FORMED = [
    llguidance.LLMatcher.grammar_from_json_schema(json.dumps(FORM), {"whitespace_pattern": " ?"}),
    llguidance.grammar_from(
        "lark", 'start: ("<call>" NAME "(" /[0-9]{1,3}/ ")</call>")+\nNAME: "sum" | "sort"'
    ),
    llguidance.grammar_from("regex", "(key: [0-9]{1,4};){3,9}"),
]
FORCED = SpeculationOptions(num_tokens=0, match_tokens=2, max_sequences=4, grammar_tokens=6)


@pytest.mark.parametrize("num_pages", [None, 11])  # 11: sequences give way to each other
@pytest.mark.parametrize("how", [FORCED, replace(FORCED, num_tokens=3, grammar_tokens=2)])
@pytest.mark.parametrize("overlap", [False, True])
def test_tokens_that_grammars_propose_change_no_answer(
    pixels: PixelFiles, overlap: bool, how: SpeculationOptions, num_pages: int | None
) -> None:
    plain, proposing = (
        LoopEngine(pixels, overlap=overlap, speculation=one, max_batch_size=12, num_pages=num_pages)
        for one in (None, how)
    )
    dice = random.Random(1)
    for _ in range(6):
        requests = [
            {
                "grammar": dice.choice([None, *FORMED]), "seed": dice.randrange(99),
                "logprobs": dice.choice([None, 1]),
                "temperature": dice.choice([0.0, 1.0]), "max_new_tokens": dice.randrange(1, 70),
                "repetition_penalty": dice.choice([1.0, 1.0, 1.1]), "eos_token_ids": (END_ID,),
                "stop_token_ids": dice.choice([(), tuple(ids_of("5"))]),
            }
            for _ in range(5)
        ]  # fmt: skip
        names = [
            [engine.submit([1, 2, place], **request) for place, request in enumerate(requests)]
            for engine in (plain, proposing)
        ]
        plain.run()
        proposing.run()
        for wanted, found in zip(*names, strict=True):
            assert proposing.tokens[found] == plain.tokens[wanted]
            ends = proposing.done(found), plain.done(wanted)
            assert ends[0].finish_reason == ends[1].finish_reason
            scores = [[one.chosen for one in each.logprobs[name]] for each, name in
                      ((plain, wanted), (proposing, found))]  # fmt: skip
            assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    before, after = plain.loop.stats(), proposing.loop.stats()
    assert after.output_tokens == before.output_tokens
    assert after.accepted_tokens > 60 and after.steps < before.steps
    assert (after.preemptions > 0) is (num_pages is not None)


def test_tokens_of_a_picture_are_read_like_any_others(pixels: PixelFiles) -> None:
    plain, proposing = LoopEngine(pixels), LoopEngine(pixels, speculation=HOW)
    found = [
        engine.tokens[engine.submit([9, 9, 9, 9, 4, 5, 4, 5], pictures=[(0, 3)], max_new_tokens=30)]
        for engine in (plain, proposing)
    ]
    plain.run()
    proposing.run()
    assert found[0] == found[1]
    assert proposing.loop.stats().proposed_tokens > 0


def test_an_abort_between_two_steps_with_proposals_ends_the_sequence_at_once(pixels: PixelFiles) -> None:
    one = LoopEngine(pixels, overlap=True, speculation=HOW)
    name = one.submit([4, 5] * 6, max_new_tokens=40)
    while one.loop.stats().proposed_tokens == 0:
        one.step()
    one.take(one.loop.abort(Abort(request_id=name)))
    one.run()
    assert one.done(name).usage.output_tokens == len(one.tokens[name]) < 40
