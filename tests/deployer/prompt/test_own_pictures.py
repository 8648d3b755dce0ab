"""A PIL image that the caller opened may stand in many prompts at once, and not be decoded yet."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.image_errors import ImageError
from deployer.prompt.messages import Message


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise).save(path)
    return path


async def test_it_is_decoded_once_and_is_the_same_in_all(builder: PromptBuilder, photo: Path) -> None:
    with Image.open(photo) as opened:
        asked = [Message.of("user", "What is this?", opened)]
        prompts = await asyncio.gather(*(builder.chat(asked) for _ in range(40)))
    assert len({prompt.images[0].key for prompt in prompts}) == 1
    [from_path] = (await builder.chat([Message.of("user", "What is this?", photo)])).images
    assert from_path.key == prompts[0].images[0].key


async def test_damage_is_found_while_a_prompt_is_planned(builder: PromptBuilder, photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:5000])
    with Image.open(photo) as opened, pytest.raises(ImageError, match="image 1: damaged or truncated"):
        await builder.plan([Message.of("user", "What is this?", opened)])
