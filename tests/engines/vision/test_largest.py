"""No picture costs more than the one that memory is kept for and clients are told of."""

import json
import random
from pathlib import Path

import pytest
from family_golden import FIXTURES

from engines.errors import RequestError
from engines.families import read_spec
from engines.spec import VisionSpec
from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.pixels.anyres_spec import AnyresSpec

FOLDERS = sorted(path.parent for path in FIXTURES.rglob("golden.safetensors"))
HALF = (0.5, 0.5, 0.5)


def vision_of(folder: Path) -> VisionSpec | None:
    config = json.loads((folder / "config.json").read_text())
    return read_spec(config, origin=str(folder), folder=folder).vision


def most_of(vision: VisionSpec) -> tuple[int, int]:
    """Return the tokens and the tiles that any picture has, of many sizes, thin ones among them."""
    dice = random.Random(5)
    sizes = [(round(2 ** dice.uniform(0, 13)), round(2 ** dice.uniform(0, 13))) for _ in range(400)]
    sizes += [(side * far, side) for side in (1, 3, 40) for far in (2, 16, 200)]
    plans = []
    for width, height in {size for pair in sizes for size in (pair, pair[::-1])}:
        try:
            plans.append(vision.pixels.plan(width, height))
        except RequestError:  # too long for this model
            continue
    return max(map(vision.num_tokens, plans)), max(plan.num_tiles for plan in plans)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_picture_costs_more_than_the_largest(folder: Path) -> None:
    vision = vision_of(folder)
    if vision is None:
        pytest.skip("a text model")
    tokens, tiles = most_of(vision)
    assert tokens <= vision.most_tokens
    assert tiles <= vision.pixels.largest().num_tiles


def test_of_grids_of_as_many_tiles_the_one_with_most_lines_costs_most() -> None:
    """Each line of the map has a newline behind it."""
    pixels = AnyresSpec(image=8, canvases=((16, 8), (8, 16)), max_tiles=2, mean=HALF, std=HALF)
    rows = AnyresRowsSpec(side=4, merge="unpad", rounding="down")
    wide, tall = pixels.plan(16, 8), pixels.plan(8, 16)
    assert rows.segments(wide) < rows.segments(tall) == rows.segments(pixels.largest())
