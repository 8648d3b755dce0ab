import hashlib
from dataclasses import replace

import numpy as np
import PIL
import pytest
from internvl_golden import CASES, golden
from PIL import Image

from engines.vision.pixels.dynamic_tiles import dynamic_tiles
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.tile_grid import num_tiles

SPEC = DynamicTilesSpec(
    kind="dynamic_tiles",
    image=448,
    min_tiles=1,
    max_tiles=12,
    thumbnail=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
PICTURES = ("img0_37x91.png", "img1_640x480.png", "img2_1000x333.png")


def normalised(tiles: np.ndarray, spec: DynamicTilesSpec) -> np.ndarray:
    """Return what upstream's transform gives: [tiles, 3, side, side], scaled, then normalised in fp32."""
    scaled = tiles.astype(np.float32) / np.float32(255)
    pixels = (scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return pixels.transpose(0, 3, 1, 2)


def sha256_of_rounded(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.round(pixels.astype(np.float64), 4).astype(np.float32).tobytes()).hexdigest()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("case", CASES)
def test_pixels_are_the_references(case: str, name: str) -> None:
    reference = golden(case)
    pixels = normalised(dynamic_tiles(reference.picture(name), reference.pixels), reference.pixels)
    wanted = reference.meta["preprocess"][name]
    assert list(pixels.shape) == wanted["shape"]
    assert sha256_of_rounded(pixels) == wanted["sha256_round4_float32"]


@pytest.mark.parametrize("name", PICTURES)
def test_full_size_tiles_are_the_references(name: str) -> None:
    reference = golden("internlm2_vit300m")
    pixels = normalised(dynamic_tiles(reference.picture(name), SPEC), SPEC)
    wanted = reference.meta["preprocess_448_max12"][name]
    assert list(pixels.shape) == wanted["shape"]
    assert sha256_of_rounded(pixels) == wanted["sha256_round4_float32"]


NOISE_SHA256 = "17256a2b3470f4330c15066f66f6e81ea423303a0078c95578b537bcca52263f"


def test_resizing_gives_the_pixels_of_pillow_13_with_every_pillow() -> None:
    """Older releases order their two passes differently where the height shrinks most."""
    dice = np.random.default_rng(0)
    digest = hashlib.sha256()
    for _ in range(200):
        width, height, side = (int(number) for number in dice.integers(1, 60, 3))
        picture = Image.fromarray(dice.integers(0, 256, (height, width, 3), dtype=np.uint8))
        tile = dynamic_tiles(picture, replace(SPEC, image=side, max_tiles=1))[0]
        digest.update(tile.tobytes())
        if int(PIL.__version__.split(".")[0]) >= 13:
            assert np.array_equal(tile, np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)))
    assert digest.hexdigest() == NOISE_SHA256


def test_num_tiles_counts_what_dynamic_tiles_cuts() -> None:
    for width, height in [(1, 1), (30, 7), (448, 448), (500, 20), (100, 101)]:
        for spec in (SPEC, replace(SPEC, thumbnail=False), replace(SPEC, max_tiles=1)):
            small = replace(spec, image=8)
            tiles = dynamic_tiles(Image.new("RGB", (width, height)), small)
            assert tiles.shape == (num_tiles(width, height, small), 8, 8, 3)
            assert tiles.dtype == np.uint8


def test_tiles_run_row_by_row_and_the_thumbnail_is_last() -> None:
    colours = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    picture = Image.fromarray(np.repeat(np.repeat(colours, 8, 0), 8, 1)).convert("RGB")
    tiles = dynamic_tiles(picture, replace(SPEC, image=8))
    assert [int(np.median(tile)) for tile in tiles[:-1]] == [0, 40, 80, 120, 160, 200]
    assert tiles[-1].min() < 40 and tiles[-1].max() > 160
