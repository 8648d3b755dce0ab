"""What a picture puts into a prompt: rows, texts between them, and what pictures of one prompt share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prompt_requests import chat, picture
from prompt_setup import deploy_config, model_spec

from deployer.errors import ConfigError
from deployer.prompt.assemble import PromptBuilder
from engines.spec import ModelSpec
from engines.vision.parts import AssemblySpec, ImagePlan, Segment

IMG, IMG_END, PLACEHOLDER = 5, 6, 7  # of the byte-level vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Sliced(AssemblySpec):
    """Two rows a tile, a tag around each tile; all pictures know the largest grid of their prompt."""

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        return ("<img>", 2, "</img>") * plan.num_tiles

    def shared(self, plans: Sequence[ImagePlan]) -> tuple[int, ...]:
        return (max(plan.num_tiles for plan in plans),)

    def build(self, spec: Any, params: Any, *, ops: Any) -> Any:
        raise NotImplementedError


def sliced() -> ModelSpec:
    spec = model_spec()
    assert spec.vision is not None
    return replace(spec, vision=replace(spec.vision, assembly=Sliced(), image_token_id=None))


async def test_rows_and_the_texts_between_them_stand_where_the_segments_say(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), sliced(), folder)
    prompt = await chat(builder, "q", picture(56, 28))
    (image,) = prompt.images
    own = prompt.token_ids[image.start : image.start + image.num_tokens]
    assert own == (IMG, PLACEHOLDER, PLACEHOLDER, IMG_END) * 3  # two tiles and a thumbnail
    assert image.rows == ((1, 2), (5, 2), (9, 2))


async def test_what_pictures_share_is_part_of_each_key(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), sliced(), folder)
    small, large = picture(), picture(84, 28)
    alone = (await chat(builder, "q", small)).images[0]
    beside_itself = (await chat(builder, "q", small, small)).images
    beside_large = (await chat(builder, "q", small, large)).images
    assert (alone.shared, beside_large[0].shared) == ((1,), (4,))
    assert alone.key == beside_itself[0].key == beside_itself[1].key != beside_large[0].key


def test_an_option_that_the_preprocessing_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        PromptBuilder(deploy_config(vision={"max_pixels": 5000, "min_pixels": 100}), model_spec(), folder)
    assert (
        "vision.max_pixels=5000: this model's preprocessing (`dynamic_tiles`) has no such option, but"
        in str(caught.value)
    )
    assert "vision.min_pixels=100" in str(caught.value)


async def test_the_id_of_config_json_wins_over_the_template_s(folder: Path) -> None:
    spec = model_spec()
    assert spec.vision is not None
    builder = PromptBuilder(
        deploy_config(), replace(spec, vision=replace(spec.vision, image_token_id=0)), folder
    )
    prompt = await chat(builder, "q", picture())
    assert prompt.token_ids[prompt.images[0].start] == 0
