"""Answers that follow a grammar, among others that don't, through the whole loop on a CPU."""

import json
import re

import llguidance
import pytest
from loop_engine import LoopEngine
from printable import END_ID, text_of

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Compile

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def ask(engine: LoopEngine, kind: str, grammar: str, seed: int = 0) -> str:
    return engine.submit(
        [seed + 1, 2, 3], grammar=llguidance.grammar_from(kind, grammar), seed=seed, temperature=1.0,
        max_new_tokens=80, eos_token_ids=(END_ID,),
    )  # fmt: skip


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"max_batch_size": 2}, {"num_pages": 12, "max_prefill_token_num": 16}]
)
def test_each_answer_follows_its_own_grammar(
    pixels: PixelFiles, changes: dict[str, int], overlap: bool
) -> None:
    engine = LoopEngine(pixels, overlap=overlap, **changes)
    regexes = [ask(engine, "regex", "[A-C]{3}-[0-9]{2,4}", seed) for seed in range(4)]
    schemas = [ask(engine, "json_schema", json.dumps(SCHEMA), seed) for seed in range(4)]
    free = engine.submit([5, 6], temperature=1.0, max_new_tokens=40)
    engine.run()
    for name in regexes:
        assert engine.done(name).finish_reason == "stop"
        assert re.fullmatch("[A-C]{3}-[0-9]{2,4}", text_of(engine.tokens[name]))
    for name in schemas:
        if engine.done(name).finish_reason == "stop":  # white space may fill the room that an answer has
            answer = json.loads(text_of(engine.tokens[name]))
            assert answer["colour"] in ("red", "blue") and answer["count"] <= 99
    assert engine.done(free).finish_reason == "length"


def test_the_same_seed_gives_the_same_answer_in_company(pixels: PixelFiles) -> None:
    alone, crowd = LoopEngine(pixels), LoopEngine(pixels)
    one = ask(alone, "regex", "[a-z]{5,9}", 7)
    names = [ask(crowd, "regex", "[a-z]{5,9}", seed) for seed in range(12)]
    alone.run()
    crowd.run()
    assert crowd.tokens[names[7]] == alone.tokens[one]


def test_a_grammar_that_does_not_compile_fails_its_request_alone(pixels: PixelFiles) -> None:
    engine = LoopEngine(pixels)
    bad = engine.submit([1], grammar="start: /(a/")
    good = ask(engine, "regex", "ab")
    engine.run()
    assert engine.failed(bad).code == "invalid_request"
    assert text_of(engine.tokens[good]) == "ab"


@pytest.mark.parametrize("overlap", [False, True])
def test_a_grammar_that_no_token_can_follow_ends_as_a_failure(pixels: PixelFiles, overlap: bool) -> None:
    engine = LoopEngine(pixels, overlap=overlap)
    name = ask(engine, "regex", "a{70}ä")
    engine.run()
    assert text_of(engine.tokens[name]) == "a" * 70
    assert engine.failed(name).code == "grammar_failed"
    assert "the grammar cannot be followed after 70 tokens" in engine.failed(name).message


@pytest.mark.parametrize("num_running", [0, 1])
def test_that_all_sequences_wait_for_a_first_grammar_is_said_where_some_run(
    pixels: PixelFiles, caplog: pytest.LogCaptureFixture, num_running: int
) -> None:
    engine = LoopEngine(pixels)
    for _ in range(num_running):
        engine.submit([5, 6], max_new_tokens=4)
    engine.take(engine.loop.take(Compile(grammar=llguidance.grammar_from("regex", "a{2}"))))
    assert ("all sequences wait" in caplog.text) == bool(num_running)
    engine.run()
