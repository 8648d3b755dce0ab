"""Weights of a resize against Pillow itself: the same bytes for any two lengths."""

import random
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from engines.vision.parts import Filter
from engines.vision.pixels.resample import PRECISION_BITS, taps

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def along_rows(picture: np.ndarray, width: int, how: Filter) -> np.ndarray:
    """Resize [height, width, 3] in its width as `Taps` says; sums must fit into 32 bits."""
    found = taps(picture.shape[1], width, how)
    sums = np.full((len(picture), width, 3), 1 << (PRECISION_BITS - 1), np.int64)
    for k, weight in enumerate(found.weight_KN):
        pixels = picture[:, np.minimum(found.first_N + k, picture.shape[1] - 1)].astype(np.int64)
        sums += pixels * weight[:, None]
    assert np.abs(sums).max() < 1 << 31
    return (sums >> PRECISION_BITS).clip(0, 255).astype(np.uint8)


def extremes(width: int, seed: int) -> np.ndarray:
    """Return a picture of noise, and of black and white, where filters overshoot most."""
    dice = np.random.default_rng(seed)
    noise = dice.integers(0, 256, (3, width, 3), dtype=np.uint8)
    return np.concatenate([noise, 255 * dice.integers(0, 2, (3, width, 3), dtype=np.uint8)])


@pytest.mark.parametrize("how", get_args(Filter))
def test_any_length_becomes_any_other_as_in_pillow(how: Filter) -> None:
    chance = random.Random(how)
    lengths = [(chance.randrange(1, 900), chance.randrange(1, 900)) for _ in range(60)]
    for width, new_width in [*lengths, (1, 1), (1, 500), (500, 1), (448, 448), (1792, 448), (4032, 1344)]:
        picture = extremes(width, seed=width)
        wanted = np.asarray(Image.fromarray(picture).resize((new_width, len(picture)), FILTERS[how]))
        assert np.array_equal(along_rows(picture, new_width, how), wanted), (width, new_width)


def test_an_axis_that_keeps_its_length_keeps_its_pixels() -> None:
    picture = extremes(50, seed=0)
    assert np.array_equal(along_rows(picture, 50, "bicubic"), picture)
