"""Tiles of any resolution: which canvas, which rows."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engines.errors import RequestError
from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.parts import ImagePlan
from engines.vision.pixels.anyres_spec import AnyresSpec, fitted_size

ROWS = AnyresRowsSpec(side=4, merge="unpad", rounding="down")
SPEC = AnyresSpec(
    image=56,
    canvases=((56, 112), (112, 56), (112, 112), (168, 56), (56, 168)),
    max_tiles=4,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((50, 100), (1, 2)),
        ((100, 50), (2, 1)),
        ((300, 300), (2, 2)),
        ((1000, 300), (3, 1)),
        ((10, 40), (1, 2)),
    ],
)
def test_the_canvas_that_shows_most_and_wastes_least_is_taken(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    plan = SPEC.plan(*size)
    assert (plan.grid, plan.num_tiles) == (grid, grid[0] * grid[1] + 1)


def test_of_equal_canvases_the_first_in_the_list_is_taken() -> None:
    # A small picture is shown whole on each.
    assert SPEC.plan(8, 8).grid == (1, 2)
    assert replace(SPEC, canvases=SPEC.canvases[1:]).plan(8, 8).grid == (2, 1)


def test_the_whole_picture_comes_first_and_tiles_stand_on_black() -> None:
    rgb = Image.new("RGB", (200, 50), (255, 255, 255))
    plan = SPEC.plan(*rgb.size)
    (tiles,) = SPEC.arrays(rgb, plan)
    assert (tiles.shape,) == SPEC.shapes(plan) == ((4, 56, 56, 3),)
    assert (tiles[0] == 255).all()
    _, height = fitted_size(*rgb.size, (168, 56))
    assert height == 42 and (tiles[1:, :7] == 0).all() and (tiles[1:, 7:49] == 255).all()
    assert (tiles[1:, 49:] == 0).all()


def test_rows_are_the_whole_picture_and_what_is_no_padding_with_newlines() -> None:
    wide, narrow = SPEC.plan(200, 50), SPEC.plan(20, 100)
    assert (wide.grid, narrow.grid) == ((3, 1), (1, 2))
    assert ROWS.kept(wide) == (range(12), range(4))  # 3 of 4 lines show it: half a line is not cut off
    assert ROWS.kept(narrow) == (range(1, 3), range(8))  # 1.6 of 4 columns show it
    assert ROWS.segments(wide) == (16 + 4 * (12 + 1),)
    assert ROWS.segments(narrow) == (16 + 8 * (2 + 1),)
    assert replace(ROWS, merge="flat").segments(wide) == (4 * 16,)


def test_the_layouts_round_a_whole_number_of_lines_differently() -> None:
    # 99 * (24 / 88) is 27, and a hair less in floating point.
    plan = ImagePlan(width=88, height=99, grid=(1, 2), num_tiles=3)
    rows = replace(ROWS, side=24)
    assert rows.kept(plan) == (range(24), range(11, 37))
    assert replace(rows, rounding="seven_digits").kept(plan) == (range(24), range(10, 38))


def test_low_detail_is_the_whole_picture_with_one_newline() -> None:
    low = SPEC.low_detail()
    plan = low.plan(200, 50)
    assert plan.num_tiles == 1 and ROWS.segments(plan) == (17,)
    (tiles,) = low.arrays(Image.new("RGB", (200, 50)), plan)
    assert tiles.shape == (1, 56, 56, 3) and tiles.dtype == np.uint8


def test_fewer_tiles_leave_out_canvases() -> None:
    assert SPEC.changed({"max_tiles": 2}).plan(300, 300).num_tiles == 3
    assert [dict(change) for change in SPEC.cheaper()] == [{"vision.max_tiles": 2}]
    assert SPEC.changed({"max_tiles": 1}).faults() == [
        "vision.max_tiles=1: must be at least 2, the smallest grid it knows"
    ]
    assert SPEC.largest().num_tiles == 5


def test_a_line_of_a_picture_is_refused() -> None:
    with pytest.raises(RequestError, match="must be at most 200 times the shorter"):
        SPEC.plan(1, 1000)
