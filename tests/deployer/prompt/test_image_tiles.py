"""Tiles, their cache key, and what `vision.*` and `detail` change."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompt_requests import chat, picture, refused
from prompt_setup import PIXELS, deploy_config, encoded, model_spec

from deployer.errors import ConfigError
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import ImagePart, Message, TextPart
from engines.vision.pixels.dynamic_tiles import dynamic_tiles


async def test_tiles_are_those_of_the_preprocessing(builder: PromptBuilder) -> None:
    image = picture(61, 90)
    prompt = await chat(builder, "q", encoded(image))
    assert np.array_equal(prompt.images[0].arrays[0], dynamic_tiles(image, PIXELS))
    assert prompt.images[0].arrays[0].dtype == np.uint8


async def test_the_key_tells_pictures_and_options_apart(folder: Path, builder: PromptBuilder) -> None:
    image = picture(60, 30)
    other = image.copy()
    other.putpixel((59, 29), (1, 2, 3))
    turned = Image.frombytes("RGB", (30, 60), image.tobytes())
    configs = [{"max_tiles": 5}, {"min_tiles": 2}, {"thumbnail": False}]
    builders = [
        builder,
        *(PromptBuilder(deploy_config(vision=config), model_spec(), folder) for config in configs),
    ]
    keys = {(await chat(each, "q", image)).images[0].key for each in builders}
    keys |= {(await chat(builder, "q", changed)).images[0].key for changed in (other, turned)}
    keys.add((await chat(builder, "q", image, detail="low")).images[0].key)
    keys.add((await chat(builder, "q", image, max_tiles=4)).images[0].key)
    assert len(keys) == len(builders) + 4
    same = [encoded(image), encoded(image, "BMP"), image.convert("RGBA")]
    assert {(await chat(builder, "another text", source)).images[0].key for source in same} < keys
    assert all(len(key) == 16 for key in keys)


async def test_detail_low_is_one_tile(builder: PromptBuilder) -> None:
    image = picture(140, 30)
    tokens = {
        d: (await chat(builder, "q", image, detail=d)).images[0].num_tokens
        for d in ("low", "medium", "high", "auto")
    }
    assert tokens == {"low": 4, "medium": 16, "high": 24, "auto": 24}  # 1, 3 and 5 tiles, and a thumbnail


@pytest.mark.parametrize("uncut_pixels", [0, 100_000], ids=["on the host", "left to the engine"])
async def test_each_picture_of_a_prompt_is_cut_as_it_asks(folder: Path, uncut_pixels: int) -> None:
    builder = PromptBuilder(deploy_config(), model_spec(), folder, uncut_pixels=uncut_pixels)
    image = picture(140, 30)
    asked = [Fineness(max_tiles=2), Fineness(), Fineness(min_tiles=6), Fineness(detail="low")]
    parts = [ImagePart(source=image, fineness=fineness) for fineness in asked]
    prompt = await builder.chat([Message(role="user", parts=(*parts, TextPart(text="q")))])
    assert [one.plan.num_tiles for one in prompt.images] == [3, 6, 7, 1]
    assert [one.num_tokens for one in prompt.images] == [4 * tiles for tiles in (3, 6, 7, 1)]
    assert len({one.key for one in prompt.images}) == 4
    if not uncut_pixels:
        assert [one.arrays[0].shape[0] for one in prompt.images] == [3, 6, 7, 1]
        assert np.array_equal(
            prompt.images[0].arrays[0], dynamic_tiles(image, PIXELS.changed({"max_tiles": 2}))
        )


async def test_more_than_the_deployment_reserves_is_refused_by_picture(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(vision={"max_tiles": 4}), model_spec(), folder)
    error = await refused(builder, "q", picture(), max_tiles=6)
    assert error.code == "image_option_refused"
    assert str(error) == (
        "image 1: `max_dynamic_patch`=6: must be at most 4, what this deployment reserves for a picture; "
        "lower it, or serve with a higher vision.max_tiles"
    )


async def test_vision_settings_override_the_checkpoint_s(folder: Path) -> None:
    for vision, tiles in (({"max_tiles": 2}, 3), ({"thumbnail": False}, 5), ({"min_tiles": 6}, 7)):
        builder = PromptBuilder(deploy_config(vision=vision), model_spec(), folder)
        assert (await chat(builder, "q", picture(140, 28))).images[0].arrays[0].shape == (tiles, 28, 28, 3)
    with pytest.raises(ConfigError, match=r"vision.min_tiles=7: must not exceed vision.max_tiles=6"):
        PromptBuilder(deploy_config(vision={"min_tiles": 7}), model_spec(), folder)


async def test_an_animation_is_noted(builder: PromptBuilder) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    prompt = await chat(builder, "q", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert prompt.images[0].notes == ("first of 2 frames used",)


async def test_pictures_up_to_a_size_are_left_to_the_engine(folder: Path, builder: PromptBuilder) -> None:
    whole = PromptBuilder(deploy_config(), model_spec(), folder, uncut_pixels=61 * 90)
    image, larger = picture(61, 90), picture(61, 91)
    one, other = (await chat(whole, "q", encoded(image), encoded(larger))).images
    assert not one.is_cut and other.is_cut
    assert one.arrays[0].shape == (90, 61, 4)
    assert np.array_equal(one.arrays[0][..., :3], np.asarray(image))
    assert np.array_equal(other.arrays[0], dynamic_tiles(larger, PIXELS))
    assert one.plan == (await chat(builder, "q", image)).images[0].plan


async def test_the_key_of_a_picture_that_is_left_to_the_engine_tells_pictures_and_options_apart(
    folder: Path,
) -> None:
    def left(**vision: object) -> PromptBuilder:
        return PromptBuilder(deploy_config(vision=vision), model_spec(), folder, uncut_pixels=100_000)

    image = picture(600, 300)  # digested in parts
    last = image.copy()
    last.putpixel((599, 299), (1, 2, 3))
    turned = Image.frombytes("RGB", (300, 600), image.tobytes())
    same = [encoded(image), encoded(image, "BMP"), image.convert("RGBA")]
    builders = [PromptBuilder(deploy_config(), model_spec(), folder, uncut_pixels=200_000), left(max_tiles=5)]
    keys = {(await chat(builder, "q", image)).images[0].key for builder in builders}
    keys |= {(await chat(builders[0], "q", other)).images[0].key for other in (last, turned)}
    assert len(keys) == 4
    assert {(await chat(builders[0], "q", source)).images[0].key for source in same} < keys
