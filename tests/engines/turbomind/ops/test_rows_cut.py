"""Tiles of products of many rows: they fill the GPU evenly and fit into a block's memory."""

import pytest

from engines.turbomind.ops.rows_cut import COLUMNS, make_cut, rows_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}


# The fastest of all widths on an H200, kernels/LOG.md: tiles of 1,025 rows, outputs, columns.
FASTEST = [
    (1, 1024, 80),
    (1, 3072, 256),
    (1, 4096, 144),
    (4, 3072, 256),
    (4, 4096, 256),
    (8, 1024, 256),
    (8, 3072, 256),
    (8, 4096, 256),
    (13, 3072, 256),
    (13, 4096, 256),
]


@pytest.mark.parametrize(("tiles", "outputs", "columns"), FASTEST)
def test_the_width_is_the_one_that_was_fastest(tiles: int, outputs: int, columns: int) -> None:
    assert rows_cut(tiles * 1025, outputs, **H200).columns == columns


def test_one_tile_spreads_over_the_gpu() -> None:
    cut = rows_cut(1025, 1024, **H200)
    assert 100 < cut.num_tiles(1025, 1024) <= H200["num_sms"]


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_ring_has_three_stages_at_least_and_fits(columns: int) -> None:
    cut = make_cut(columns, bytes_per_block=H200["bytes_per_block"])
    assert cut.stages >= 3
    assert cut.shared_bytes <= H200["bytes_per_block"]


@pytest.mark.parametrize(("tiles", "fills"), [(1, False), (2, False), (4, True), (8, True), (13, True)])
def test_a_narrow_layer_fills_the_gpu_from_four_tiles_on(tiles: int, fills: bool) -> None:
    cut = rows_cut(tiles * 1025, 1024, **H200)
    assert (cut.fill(tiles * 1025, 1024, num_sms=132) >= 0.6) == fills
