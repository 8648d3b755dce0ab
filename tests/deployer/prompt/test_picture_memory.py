"""The pixels of a picture without a copy, whoever made it and however large it is."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from prompt_requests import picture

from deployer.prompt import picture_memory
from deployer.prompt.picture_memory import colours, keep_in_one_piece


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (448, 448), (2100, 2100), (5_000_000, 1), (1, 5_000_000)])
def test_the_colours_are_those_of_the_picture(size: tuple[int, int]) -> None:
    image = noise(*size)
    found = colours(image)
    assert found.shape == (size[1], size[0], 4) and found.flags.c_contiguous
    assert np.array_equal(found[..., :3], np.asarray(image))


def test_the_memory_lives_as_long_as_the_array() -> None:
    image = noise(300, 200)
    wanted, found = np.asarray(image).copy(), colours(image)
    del image
    gc.collect()
    others = [Image.new("RGB", (300, 200), "red") for _ in range(20)]
    assert np.array_equal(found[..., :3], wanted) and others


@pytest.mark.skipif(not hasattr(Image.Image, "__arrow_c_array__"), reason="Pillow before 11.2 copies")
def test_a_picture_in_one_piece_is_not_copied() -> None:
    image = picture(60, 40)
    assert colours(image).ctypes.data == colours(image).ctypes.data


@pytest.fixture
def block_bytes() -> Iterator[int]:
    before: int = Image.core.get_block_size()
    yield before
    Image.core.set_block_size(before)


@pytest.mark.skipif(not hasattr(Image.Image, "__arrow_c_array__"), reason="Pillow before 11.2 copies")
def test_a_large_picture_is_in_one_piece_once_that_was_asked_for(block_bytes: int) -> None:
    keep_in_one_piece(2100 * 2100)
    image = noise(2100, 2100)
    assert block_bytes < 2100 * 2100 * 4
    assert colours(image).ctypes.data == colours(image).ctypes.data
    assert np.array_equal(colours(image)[..., :3], np.asarray(image))


def test_blocks_never_become_smaller(block_bytes: int) -> None:
    keep_in_one_piece(1)
    assert Image.core.get_block_size() == block_bytes


def test_an_older_pillow_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(60, 40)
    wanted = colours(image).copy()
    monkeypatch.delattr(picture_memory.Image.Image, "__arrow_c_array__", raising=False)
    assert np.array_equal(colours(image), wanted)
