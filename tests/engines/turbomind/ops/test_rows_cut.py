"""Tiles of products of many rows: they fill the GPU evenly and fit into a block's memory."""

import math

import pytest

from engines.turbomind.ops.rows_cut import COLUMNS, ROWS, make_cut, rows_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}


@pytest.mark.parametrize("tiles", [1, 2, 7, 8, 13, 32])
@pytest.mark.parametrize("outputs", [1024, 3072, 4096])
def test_the_busiest_multiprocessor_has_as_little_to_do_as_with_any_other_width(
    tiles: int, outputs: int
) -> None:
    def busiest(columns: int) -> int:
        blocks = math.ceil(tiles * 1025 / ROWS) * math.ceil(outputs / columns)
        return math.ceil(blocks / H200["num_sms"]) * columns

    cut = rows_cut(tiles * 1025, outputs, **H200)
    assert busiest(cut.columns) == min(map(busiest, COLUMNS))


def test_one_tile_spreads_over_the_gpu() -> None:
    cut = rows_cut(1025, 1024, **H200)
    assert 100 < cut.num_tiles(1025, 1024) <= H200["num_sms"]


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_ring_has_three_stages_at_least_and_fits(columns: int) -> None:
    cut = make_cut(columns, bytes_per_block=H200["bytes_per_block"])
    assert cut.stages >= 3
    assert cut.shared_bytes <= H200["bytes_per_block"]
