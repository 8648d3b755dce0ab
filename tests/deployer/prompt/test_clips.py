"""Videos that are one thing in their prompt (Qwen2-VL): frames, sizes, times, keys, and what is refused."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prompt_requests import picture
from prompt_setup import deploy_config, encoded, model_spec
from videos import grey, number_of, video

from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_choice import NO_WISH, FrameWish
from deployer.prompt.messages import ImagePart, Message, TextPart, VideoPart
from engines.errors import RequestError
from engines.spec import ModelSpec
from engines.vision.assembly.native_spec import NativeRowsSpec
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.video_spec import ClipSpec, VideoSpec

IMAGE, VIDEO = 7, 6  # <IMG_CONTEXT> and </img> of the byte-level tokenizer
CELL = 28 * 28
TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ {'image': '<IMG_CONTEXT>', 'video': '</img>'}.get(p.type) or p.text }}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def spec(*, max_cells: int = 400, times_a_second: float | None = 2.0) -> ModelSpec:
    half = (0.5, 0.5, 0.5)
    model = model_spec()
    assert model.vision is not None
    vision = replace(
        model.vision,
        pixels=NativeSpec(
            cell=28, step_frames=2, min_pixels=CELL, max_pixels=max_cells * CELL, mean=half, std=half
        ),
        assembly=NativeRowsSpec(),
        image_token_id=IMAGE,
        video=VideoSpec(
            choice="starts",
            fps=2.0,
            clip=ClipSpec(
                token_id=VIDEO, step_frames=2, min_frames=4, min_pixels=4 * CELL, max_pixels=12 * CELL,
                times_a_second=times_a_second,
            ),
        ),
    )  # fmt: skip
    return replace(model, vision=vision)


def builder_of(folder: Path, model: ModelSpec, **vision: Any) -> PromptBuilder:
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return PromptBuilder(deploy_config(template={"name": "from_checkpoint"}, vision=vision), model, folder)


@pytest.fixture
def clips(folder: Path) -> Iterator[PromptBuilder]:
    builder = builder_of(folder, spec())
    yield builder
    asyncio.run(builder.aclose())


async def ask(builder: PromptBuilder, *parts: Any) -> Prompt:
    return await builder.chat([Message(role="user", parts=(*parts, TextPart(text="what?")))])


async def refused(builder: PromptBuilder, *parts: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await ask(builder, *parts)
    return caught.value


def clip(wish: FrameWish = NO_WISH, fineness: Fineness | None = None, **options: Any) -> VideoPart:
    return VideoPart(source=video(**options), wish=wish, fineness=fineness or Fineness())


def seen(prompt: Prompt) -> list[int]:
    return [number_of(Image.fromarray(np.asarray(frame))) for frame in prompt.images[0].arrays[0]]


async def test_a_video_is_two_frames_a_second_in_steps_of_two(clips: PromptBuilder) -> None:
    prompt = await ask(clips, clip())
    [image] = prompt.images
    assert seen(prompt) == [0, 5, 10, 15, 20, 25]
    assert image.plan.grid == (3, 2)  # 96 x 64, in whole cells of 28
    assert image.plan.times == (0, 2, 4)  # two positions a second, a step a second
    assert image.plan.num_tiles == 3
    assert image.num_tokens == 3 * 6
    assert image.arrays[0].shape == (6, 56, 84, 3)
    assert set(prompt.token_ids[image.start : image.start + 18]) == {VIDEO}
    assert prompt.token_ids.count(VIDEO) == 18
    assert image.name == "video 1" and image.notes == ("6 of 30 frames used",)
    assert image.times.decode_s > 0


async def test_steps_are_counted_where_a_family_knows_no_clock(folder: Path) -> None:
    builder = builder_of(folder, spec(times_a_second=None))
    assert (await ask(builder, clip())).images[0].plan.times == (0, 1, 2)
    await builder.aclose()


async def test_a_process_gives_the_same_video(folder: Path, clips: PromptBuilder) -> None:
    pooled = builder_of(folder, spec(), preprocess_workers=1)
    one, other = await ask(pooled, clip()), await ask(clips, clip())
    [ours], [theirs] = one.images, other.images
    assert one.token_ids == other.token_ids
    assert (ours.key, ours.plan, ours.notes) == (theirs.key, theirs.plan, theirs.notes)
    assert np.array_equal(ours.arrays[0], theirs.arrays[0])
    await pooled.aclose()


async def test_pictures_stand_beside_it_with_their_own_token(clips: PromptBuilder) -> None:
    prompt = await ask(clips, ImagePart(source=picture(56, 28)), clip(FrameWish(num_frames=2)))
    still, moving = prompt.images
    assert (still.name, moving.name) == ("image 1", "video 1")
    assert prompt.token_ids[still.start : still.start + 2] == (IMAGE, IMAGE)
    assert prompt.token_ids[moving.start] == VIDEO
    assert still.start < moving.start


async def test_a_number_of_frames_fills_whole_steps_and_a_last_one_comes_twice(clips: PromptBuilder) -> None:
    assert len(seen(await ask(clips, clip(FrameWish(num_frames=5))))) == 6
    assert seen(await ask(clips, clip(FrameWish(num_frames=8), count=3))) == [0, 1, 2, 2]
    assert seen(await ask(clips, clip(count=1))) == [0, 0]


async def test_a_slow_rate_still_gives_a_few_frames_and_the_deployment_s_most_ends_a_long_video(
    folder: Path, clips: PromptBuilder
) -> None:
    assert len(seen(await ask(clips, clip(FrameWish(fps=0.5))))) == 4
    builder = builder_of(folder, spec(), max_video_frames=5)
    assert len(seen(await ask(builder, clip()))) == 4
    error = await refused(builder, clip(FrameWish(fps=10)))
    assert error.code == "video_too_many_frames"
    await builder.aclose()


async def test_frames_share_the_pixels_of_the_largest_picture(folder: Path, clips: PromptBuilder) -> None:
    large = clip(FrameWish(num_frames=4), size=(560, 280))
    assert (await ask(clips, large)).images[0].plan.grid == (4, 2)  # at most 12 cells, the family's own
    finer = clip(FrameWish(num_frames=4), Fineness(max_pixels=200 * CELL), size=(560, 280))
    assert (await ask(clips, finer)).images[0].plan.grid == (20, 10)
    error = await refused(clips, clip(FrameWish(num_frames=8), Fineness(max_pixels=200 * CELL)))
    assert error.code == "video_option_refused"
    assert str(error).startswith("video 1: `max_pixels`=156,800: must be at most 78,400")
    small = builder_of(folder, spec(max_cells=16))
    assert (await ask(small, large)).images[0].plan.grid == (4, 2)  # 8 cells a step
    error = await refused(small, clip(FrameWish(num_frames=16), size=(600, 28)))
    assert "rows: must be at most 16 (vision.max_pixels); ask for fewer `num_frames`" in str(error)
    await small.aclose()


async def test_the_key_tells_frames_and_times(clips: PromptBuilder) -> None:
    async def key(*numbers: int, fps: float | None = None) -> bytes:
        frames = tuple(encoded(grey(number, 84, 56)) for number in numbers)
        return (await ask(clips, VideoPart(source=frames, wish=FrameWish(fps=fps)))).images[0].key

    keys = [await key(1, 2, 3, 4), await key(1, 2, 4, 3), await key(1, 2, 3, 4, fps=0.5), await key(1, 2)]
    assert len(set(keys)) == 4
    assert await key(1, 2, 3, 4) == keys[0] == await key(1, 2, 3, 4, fps=2.0)


async def test_a_list_of_frames_says_by_fps_how_it_was_taken(clips: PromptBuilder) -> None:
    frames = tuple(encoded(grey(number, 84, 56)) for number in range(4))
    slow = await ask(clips, VideoPart(source=frames, wish=FrameWish(fps=0.5)))
    assert slow.images[0].plan.times == (0, 8)
    assert (await ask(clips, VideoPart(source=frames))).images[0].plan.times == (0, 2)


async def test_a_text_cannot_write_the_token_of_a_video(clips: PromptBuilder) -> None:
    error = await refused(clips, TextPart(text="</img>"))
    assert "holds `</img>`, which stands for a picture" in str(error)


async def test_options_of_tiles_are_refused(clips: PromptBuilder) -> None:
    error = await refused(clips, clip(NO_WISH, Fineness(max_tiles=2)))
    assert "`max_dynamic_patch`: this model's pictures have no such option" in str(error)
    assert error.code == "video_option_refused"
