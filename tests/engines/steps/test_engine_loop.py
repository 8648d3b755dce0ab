import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from loop_engine import LoopEngine, MakeEngine
from msgspec.structs import replace as with_fields
from PIL import Image
from sequences import sampling
from tiny_engine import IMAGE_ID, SPEC, image_input

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Abort, Flush, Submit


def conversation(dice: random.Random) -> tuple[list[int], list[tuple[int, int]], dict[str, Any]]:
    """A prompt, its pictures, and how its answer is sampled."""
    prompt = list(range(10)) if dice.random() < 0.5 else []
    pictures = []
    for _ in range(dice.randrange(3)):
        pictures.append((len(prompt), dice.randrange(3)))
        prompt += [IMAGE_ID] * 4 + [dice.randrange(80) for _ in range(dice.randrange(3))]
    prompt += [dice.randrange(80) for _ in range(dice.randrange(1, 20))]
    how = {
        "max_new_tokens": dice.randrange(1, 25),
        "temperature": dice.choice([0.0, 1.0]),
        "top_p": dice.choice([1.0, 0.8]),
        "repetition_penalty": dice.choice([1.0, 1.2]),
        "seed": dice.randrange(1000),
    }
    return prompt, pictures, how


def answers(engine: LoopEngine, count: int = 16) -> list[list[int]]:
    dice = random.Random(3)
    names = []
    for _ in range(count):
        prompt, pictures, how = conversation(dice)
        names.append(engine.submit(prompt, pictures=pictures, **how))
    engine.run()
    return [engine.tokens[name] for name in names]


@pytest.fixture(scope="module")
def reference() -> Iterator[list[list[int]]]:
    """Each answer computed alone, whole, without a cache."""
    pixels = PixelFiles()
    yield answers(LoopEngine(pixels, max_batch_size=1, prefix_caching=False, max_prefill_token_num=256))
    pixels.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_batch_size": 16, "prefix_caching": False},
        {"max_prefill_token_num": 1},
        {"max_prefill_token_num": 7},
        {"num_tokens_per_iter": 5, "max_prefill_iters": 3},
        {"page_tokens": 1},
        {"page_tokens": 64},
        {"cache_bytes": 0, "max_prefill_token_num": 3},
        {"num_pages": 40, "page_tokens": 2, "session_len": 80, "max_batch_size": 16},
        {
            "num_pages": 40,
            "page_tokens": 2,
            "session_len": 80,
            "prefix_caching": False,
            "max_prefill_token_num": 9,
        },
    ],
    ids=str,
)
def test_the_tokens_do_not_depend_on_how_steps_are_cut(
    changes: dict[str, Any], engine: MakeEngine, reference: list[list[int]]
) -> None:
    assert answers(engine(**changes)) == reference


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_tokens_do_not_depend_on_how_steps_are_cut_on_a_gpu(engine: MakeEngine) -> None:
    alone = answers(engine(device="cuda", max_batch_size=1, prefix_caching=False))
    assert answers(engine(device="cuda", max_prefill_token_num=7)) == alone
    assert answers(engine(device="cuda", max_batch_size=16)) == alone


def test_preemption_happens_in_the_case_that_means_to_show_it(engine: MakeEngine) -> None:
    crowded = engine(num_pages=40, page_tokens=2, session_len=80, max_batch_size=16)
    answers(crowded)
    assert crowded.loop.stats().preemptions > 0


def test_usage_and_stats_count_what_happened(engine: MakeEngine) -> None:
    one = engine()
    prompt = [1, 2] + [IMAGE_ID] * 4 + list(range(14))
    first = one.submit(prompt, pictures=[(2, 5)], max_new_tokens=4)
    one.run()
    second = one.submit(prompt, pictures=[(2, 5)], max_new_tokens=4)
    one.run()
    usage = one.done(second).usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.image_tokens) == (20, 16, 4)
    assert usage.output_tokens == 4
    assert min(usage.queue_s, usage.prefill_s, usage.decode_s) >= 0
    stats = one.loop.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.output_tokens) == (40, 16, 8)
    assert (stats.steps, stats.num_running, stats.num_waiting) == (8, 0, 0)
    assert stats.step_s > 0
    assert one.tokens[first] == one.tokens[second]


def test_an_image_in_the_prefix_cache_is_not_encoded_again(engine: MakeEngine) -> None:
    one = engine(cache_bytes=0)
    prompt = [1, 2] + [IMAGE_ID] * 4 + list(range(14))
    for _ in range(2):
        one.submit(prompt, pictures=[(2, 5)])
        one.run()
    assert one.loop.stats().images_encoded == 1


def test_what_was_flushed_is_computed_again_and_what_runs_goes_on(engine: MakeEngine) -> None:
    one = engine()
    prompt = list(range(20))
    first = one.submit(prompt, max_new_tokens=6)
    one.run()
    cached = one.loop.stats().pages_cached
    assert cached > 0
    running = one.submit([*prompt[:19], 40], max_new_tokens=6)
    one.step()
    assert one.loop.take(Flush()) == []
    assert one.loop.stats().pages_cached == 0
    again = one.submit(prompt, max_new_tokens=6)
    one.run()
    assert one.done(again).usage.cached_tokens == 0
    assert one.tokens[again] == one.tokens[first] and len(one.tokens[running]) == 6


def test_an_image_in_another_prompt_comes_from_the_encoder_cache(engine: MakeEngine) -> None:
    one = engine()
    for first_token in range(2):
        one.submit([first_token, 2] + [IMAGE_ID] * 4 + [3], pictures=[(2, 5)])
        one.run()
    stats = one.loop.stats()
    assert (stats.images_encoded, stats.encoder_cache_hits) == (1, 1)


def test_equal_prompts_with_other_pictures_get_other_answers(engine: MakeEngine) -> None:
    one = engine()
    prompt = [IMAGE_ID] * 4 + [3, 4, 5, 6, 7, 8]
    names = [one.submit(prompt, pictures=[(0, seed)], max_new_tokens=8, logprobs=0) for seed in (1, 2, 1)]
    one.run()
    first, other, again = (one.logprobs[name][0].chosen for name in names)
    assert first != other
    assert first == pytest.approx(again, abs=1e-5)


def test_logprobs_come_with_their_tokens(engine: MakeEngine) -> None:
    one = engine()
    name = one.submit([1, 2, 3], max_new_tokens=3, logprobs=2)
    plain = one.submit([1, 2, 3], max_new_tokens=3)
    one.run()
    assert len(one.logprobs[name]) == 3
    assert one.logprobs[plain] == []
    for token, logprobs in zip(one.tokens[name], one.logprobs[name], strict=True):
        assert logprobs.top_ids[0] == token
        assert logprobs.top_logprobs[0] == logprobs.chosen
        assert logprobs.top_logprobs[0] >= logprobs.top_logprobs[1]


def test_an_end_token_is_reported_and_not_put_out(engine: MakeEngine) -> None:
    one = engine()
    name = one.submit([1, 2, 3], max_new_tokens=5)
    one.run()
    assert one.done(name).finish_reason == "length"
    eos = one.tokens[name][0]
    again = one.submit([1, 2, 3], max_new_tokens=5, eos_token_ids=(eos,))
    one.run()
    assert one.tokens[again] == []
    assert (one.done(again).finish_reason, one.done(again).stop_token_id) == ("stop", eos)


def test_session_len_ends_a_sequence(engine: MakeEngine) -> None:
    one = engine(session_len=16)
    name = one.submit(range(10), max_new_tokens=100)
    one.run()
    assert (len(one.tokens[name]), one.done(name).finish_reason) == (6, "length")


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_an_abort_ends_a_sequence_waiting_in_prefill_or_decoding(engine: MakeEngine, steps: int) -> None:
    one = engine(max_prefill_token_num=4)
    name = one.submit(range(8), max_new_tokens=100)
    for _ in range(steps):
        one.step()
    one.take(one.loop.abort(Abort(request_id=name)))
    assert one.done(name).finish_reason == "abort"
    assert one.done(name).usage.output_tokens == len(one.tokens[name])
    one.run()  # a step that was under way gives nothing more
    assert not one.loop.has_work
    assert one.loop.abort(Abort(request_id=name)) == []


def test_the_phases_of_a_start_are_told_and_timed(engine: MakeEngine) -> None:
    one = engine()
    assert one.phases == ["device", "weights", "rehearsal", "kv_cache"]
    assert list(one.ready.phase_s) == one.phases
    assert one.ready.bytes_by_part["kv_cache"] == one.ready.num_pages * one.ready.page_bytes


def test_a_picture_that_comes_whole_gives_the_tokens_of_one_that_comes_cut(engine: MakeEngine) -> None:
    one, pixels = engine(uncut_pixels=100 * 100), PixelFiles()
    dice, vision = np.random.default_rng(0), SPEC.vision
    assert vision is not None
    picture = dice.integers(0, 256, (35, 90, 4), dtype=np.uint8)
    plan = vision.pixels.plan(90, 35)
    (tiles,) = vision.pixels.arrays(Image.fromarray(picture[..., :3]), plan)
    cut = image_input(pixels, tiles, key=b"c" * 16, start=2)
    whole = with_fields(cut, key=b"w" * 16, pixels=(pixels.write(picture),), is_cut=False)
    prompt = (1, 2, *[IMAGE_ID] * cut.num_tokens, 3)
    answers = []
    for image in (cut, whole):
        request = Submit(
            request_id=image.key.hex(),
            token_ids=prompt,
            images=(with_fields(image, plan=plan),),
            sampling=sampling(max_new_tokens=8),
            priority=0,
        )
        one.tokens[request.request_id], one.logprobs[request.request_id] = [], []
        one.prompt_logprobs[request.request_id] = []
        one.take(one.loop.submit(request))
        one.run()
        answers.append(one.tokens[request.request_id])
    pixels.close()
    assert plan.num_tiles > 2 and len(answers[0]) == 8 and answers[0] == answers[1]
