"""Log-probabilities of prompt tokens: what feeding the prompt token by token gives, however steps are cut."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from loop_engine import LoopEngine
from tiny_engine import IMAGE_ID

from engines.ipc.pixel_files import PixelFiles
from engines.messages import TokenLogprobs

PROMPT = [1, 2] + [IMAGE_ID] * 4 + [7 * i % 80 for i in range(25)]
PICTURES = [(2, 5)]


@pytest.fixture(scope="module")
def pixels() -> Iterator[PixelFiles]:
    files = PixelFiles()
    yield files
    files.close()


@pytest.fixture(scope="module")
def expected(pixels: PixelFiles) -> list[dict[int, float]]:
    """All log-probabilities of the token after each beginning of the prompt behind its picture."""
    engine = LoopEngine(pixels, prefix_caching=False)
    vocab = engine.loop._spec.decoder.vocab
    names = [
        engine.submit(PROMPT[:end], pictures=PICTURES, max_new_tokens=1, ignore_eos=True, logprobs=vocab)
        for end in range(6, len(PROMPT))
    ]
    engine.run()
    found = [engine.logprobs[name][0] for name in names]
    return [dict(zip(one.top_ids, one.top_logprobs, strict=True)) for one in found]


def check(found: list[TokenLogprobs], expected: list[dict[int, float]], *, number: int) -> None:
    assert len(found) == len(PROMPT) - 1
    for token_id, one, all_of_them in zip(PROMPT[6:], found[5:], expected, strict=True):
        assert one.chosen == pytest.approx(all_of_them[token_id], abs=1e-4)
        assert one.top_logprobs == pytest.approx(sorted(all_of_them.values())[::-1][:number], abs=1e-4)
        assert [all_of_them[top] for top in one.top_ids] == pytest.approx(list(one.top_logprobs), abs=1e-4)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_prefill_token_num": 1},
        {"max_prefill_token_num": 7},
        {"max_batch_size": 1},
        {"page_tokens": 2},
    ],
    ids=str,
)
def test_they_are_those_of_the_prompt_fed_token_by_token(
    changes: dict[str, Any], overlap: bool, pixels: PixelFiles, expected: list[dict[int, float]]
) -> None:
    engine = LoopEngine(pixels, overlap=overlap, **changes)
    before = engine.submit(PROMPT, pictures=PICTURES, max_new_tokens=6)
    engine.run()  # its prefix lies in the cache now
    scored = engine.submit(PROMPT, pictures=PICTURES, max_new_tokens=6, prompt_logprobs=3)
    alone = engine.submit(PROMPT, pictures=PICTURES, max_new_tokens=0, prompt_logprobs=0)
    other = engine.submit(PROMPT, pictures=PICTURES, max_new_tokens=6)
    engine.run()
    check(engine.prompt_logprobs[scored], expected, number=3)
    check(engine.prompt_logprobs[alone], expected, number=0)
    assert engine.prompt_logprobs[other] == []
    assert engine.tokens[scored] == engine.tokens[other] == engine.tokens[before]
    assert engine.done(scored).usage.cached_tokens == 0


def test_without_new_tokens_only_the_prompt_is_computed(pixels: PixelFiles) -> None:
    engine = LoopEngine(pixels)
    name = engine.submit([5], max_new_tokens=0, prompt_logprobs=1)
    engine.run()
    done = engine.done(name)
    assert (engine.tokens[name], engine.prompt_logprobs[name]) == ([], [])
    assert (done.finish_reason, done.stop_token_id, done.usage.output_tokens) == ("length", None, 0)


@pytest.mark.parametrize("overlap", [False, True])
def test_who_is_preempted_gets_each_of_them_once(pixels: PixelFiles, overlap: bool) -> None:
    dice = random.Random(1)
    prompts = [[dice.randrange(80) for _ in range(dice.randrange(10, 30))] for _ in range(16)]
    crowded = {"num_pages": 40, "page_tokens": 2, "session_len": 80, "max_batch_size": 16}
    found = []
    for changes in ({"max_batch_size": 1}, {**crowded, "max_prefill_token_num": 9}):
        engine = LoopEngine(pixels, overlap=overlap, **changes)
        names = [engine.submit(one, max_new_tokens=20, prompt_logprobs=0) for one in prompts]
        engine.run()
        found.append([[one.chosen for one in engine.prompt_logprobs[name]] for name in names])
    assert engine.loop.stats().preemptions > 0
    assert list(map(len, found[1])) == [len(prompt) - 1 for prompt in prompts]
    for alone, beside in zip(*found, strict=True):
        assert beside == pytest.approx(alone, abs=1e-4)
