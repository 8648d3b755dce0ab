from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as with_fields
from sequences import sampling
from tiny_engine import SIDE, SPEC, VOCAB, image_input, plan_of, tiles

from engines.errors import RequestError
from engines.ipc.pixel_files import PixelFiles
from engines.messages import ImageInput, PixelRef, Submit, Vocabulary
from engines.sampling.grammar import Grammars
from engines.schedule.sequence import Sequence
from engines.spec import ModelSpec
from engines.steps.intake import take_sequence
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec

PLAIN = Submit(request_id="one", token_ids=(1, 2, 3), images=(), sampling=sampling(), priority=0)

GRAMMARS = Grammars(
    Vocabulary(tokens=tuple(bytes([i + 32]) for i in range(90)), special_ids=(), end_ids=(5,)), vocab=VOCAB
)


def take(request: Submit, spec: ModelSpec = SPEC, session_len: int = 64) -> Sequence:
    return take_sequence(request, spec, GRAMMARS, session_len=session_len, arrival=1, now_s=2.0)


def picture(files: PixelFiles, start: int, num_tiles: int = 1, **changes: Any) -> ImageInput:
    image = image_input(files, tiles(0, num_tiles), key=b"k" * 16, start=start)
    return with_fields(image, **changes)


def test_a_request_becomes_a_sequence() -> None:
    one = take(PLAIN)
    assert (one.token_ids, one.num_prompt_tokens, one.max_tokens) == ([1, 2, 3], 3, 19)
    assert (one.arrival, one.submitted_s) == (1, 2.0)


def test_a_sequence_ends_at_session_len() -> None:
    assert take(PLAIN, session_len=10).max_tokens == 10


def test_images_are_ordered_and_their_pixels_read(pixels: PixelFiles) -> None:
    images = (picture(pixels, 6, 2), picture(pixels, 1))
    one = take(with_fields(PLAIN, token_ids=(1,) * 16, images=images))
    assert [(image.start, image.end) for image in one.images] == [(1, 5), (6, 14)]
    assert [image.pixels.arrays[0].shape for image in one.images if image.pixels is not None] == [
        (1, SIDE, SIDE, 3),
        (2, SIDE, SIDE, 3),
    ]


def test_prompts_of_different_rotary_regimes_have_different_roots() -> None:
    rope = replace(SPEC.decoder.rope, kind="dynamic", factor=2.0, max_positions=4)
    spec = replace(SPEC, decoder=replace(SPEC.decoder, rope=rope))
    short, other = take(PLAIN, spec), take(with_fields(PLAIN, token_ids=(1, 2)), spec)
    long = take(with_fields(PLAIN, token_ids=(1, 2, 3, 4, 5)), spec)
    assert short.root_key == other.root_key != long.root_key


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"token_ids": ()}, "without tokens"),
        ({"token_ids": (1, VOCAB, -1)}, r"\[-1, 96\]: the vocabulary goes from 0 to 95"),
        ({"sampling": sampling(max_new_tokens=-1)}, "max_new_tokens=-1: must be 0 or more"),
        ({"sampling": sampling(temperature=float("nan"))}, "temperature=nan"),
        ({"sampling": sampling(temperature=-1.0)}, "temperature=-1"),
        ({"sampling": sampling(top_k=-1)}, "top_k=-1"),
        ({"sampling": sampling(top_p=1.5, min_p=-1.0)}, r"top_p=1.5: .*; min_p=-1.0"),
        ({"sampling": sampling(repetition_penalty=0.0)}, "repetition_penalty=0.0: must be above 0"),
        ({"sampling": sampling(presence_penalty=float("inf"))}, "presence_penalty=inf"),
        ({"sampling": sampling(frequency_penalty=float("nan"))}, "frequency_penalty=nan"),
        ({"sampling": sampling(logprobs=1000)}, "logprobs=1000: must be from 0 to 96"),
        ({"sampling": sampling(prompt_logprobs=97)}, "prompt_logprobs=97: must be from 0 to 96"),
        ({"sampling": sampling(logit_bias={5: float("nan")})}, "logit_bias"),
        ({"sampling": sampling(logit_bias={1000: 1.0})}, "logit_bias holds the token ids"),
        ({"sampling": sampling(bad_sequences=((1,), ()))}, "bad_sequences"),
    ],
)
def test_what_would_break_a_step_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        take(with_fields(PLAIN, **fields))
    assert caught.value.code == "invalid_request"


def test_a_prompt_without_room_for_an_answer_is_too_long() -> None:
    with pytest.raises(RequestError, match="prompt of 64 tokens: the context holds 64") as caught:
        take(with_fields(PLAIN, token_ids=(1,) * 64))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "start, changes, message",
    [
        (0, {}, r"\[0, 4\) lies outside the prompt of 3"),
        (-1, {}, "lies outside the prompt"),
        (0, {"num_tokens": 3}, r"has rows \(\(0, 4\),\) in 3 tokens: must be 4 rows in order"),
        (0, {"num_tokens": 3, "rows": ((0, 3),)}, "must be 4 rows in order"),
        (0, {"num_tokens": 3, "rows": ((1, 2), (0, 2))}, "must be 4 rows in order"),
        (0, {"key": b"short", "pixels": None}, "a key of 16 bytes"),
        (0, {"pixels": (PixelRef(path="x", shape=(0, 16, 16, 3)),)}, "its plan of 1 tiles needs"),
        (0, {"plan": plan_of(2)}, "its plan of 2 tiles needs"),
    ],
)
def test_an_image_that_does_not_fit_its_prompt_is_refused(
    pixels: PixelFiles, start: int, changes: dict[str, Any], message: str
) -> None:
    if changes.get("pixels", 0) is None:
        changes = {**changes, "pixels": (pixels.write(tiles(0)),)}
    token_ids = (1,) * (8 if {"key", "plan", "pixels"} & changes.keys() else 3)
    with pytest.raises(RequestError, match=message):
        take(with_fields(PLAIN, token_ids=token_ids, images=(picture(pixels, start, **changes),)))


def test_images_that_overlap_are_refused(pixels: PixelFiles) -> None:
    images = (picture(pixels, 0), picture(pixels, 3))
    with pytest.raises(RequestError, match="images at tokens 0 and 3 overlap"):
        take(with_fields(PLAIN, token_ids=(1,) * 16, images=images))


def test_a_text_model_takes_no_images(pixels: PixelFiles) -> None:
    with pytest.raises(RequestError, match="takes text only"):
        take(with_fields(PLAIN, token_ids=(1,) * 8, images=(picture(pixels, 0),)), replace(SPEC, vision=None))


def whole(files: PixelFiles, width: int, height: int, **changes: Any) -> ImageInput:
    """Return a picture of one tile that the engine is to cut."""
    pixels = (files.write(np.zeros((height, width, 4), np.uint8)),)
    plan = replace(plan_of(1), width=width, height=height)
    return with_fields(picture(files, 0), pixels=pixels, plan=plan, is_cut=False, **changes)


def test_a_picture_that_is_not_cut_is_taken_whole(pixels: PixelFiles) -> None:
    one = take(with_fields(PLAIN, token_ids=(1,) * 8, images=(whole(pixels, 40, 30),)))
    (image,) = one.images
    assert image.pixels is not None and not image.pixels.is_cut
    assert [array.shape for array in image.pixels.arrays] == [(30, 40, 4)]


def test_a_picture_that_is_not_cut_must_have_the_size_of_its_plan_and_a_kind_that_a_device_cuts(
    pixels: PixelFiles,
) -> None:
    narrow = whole(pixels, 40, 30)
    wrong = with_fields(narrow, plan=replace(narrow.plan, width=41))
    with pytest.raises(
        RequestError, match=r"pixels \(\(30, 40, 4\),\): its plan of 1 tiles needs \(\(30, 41, 4\),\)"
    ):
        take(with_fields(PLAIN, token_ids=(1,) * 8, images=(wrong,)))
    assert SPEC.vision is not None
    squares = FixedSquareSpec(image=SIDE, mode="squash", mean=(0, 0, 0), std=(1, 1, 1), background=(0, 0, 0))
    spec = replace(SPEC, vision=replace(SPEC.vision, pixels=squares))
    with pytest.raises(RequestError, match="is not cut: pixels of kind `fixed_square` come as tiles"):
        take(with_fields(PLAIN, token_ids=(1,) * 8, images=(narrow,)), spec)


@pytest.mark.parametrize("fields", [{"ignore_eos": True}, {"min_new_tokens": 1}, {"bad_sequences": ((1,),)}])
def test_what_could_leave_a_grammar_without_a_token_is_refused(fields: dict[str, Any]) -> None:
    how = sampling(grammar='start: "a"', **fields)
    with pytest.raises(RequestError, match="with a grammar"):
        take(with_fields(PLAIN, sampling=how))


def test_a_grammar_is_compiled_at_intake() -> None:
    assert take(with_fields(PLAIN, sampling=sampling(grammar='start: "a"'))).grammar is not None
    with pytest.raises(RequestError, match="does not compile"):
        take(with_fields(PLAIN, sampling=sampling(grammar="start: /(a/")))
