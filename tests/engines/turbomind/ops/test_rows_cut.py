"""Tiles of products of many rows: they fill the GPU evenly and fit into a block's memory."""

import pytest

from engines.turbomind.ops.rows_cut import CUTS, RowsCut, make_cut, rows_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}


# The fastest of all cuts on an H200, kernels/LOG.md: tiles of 1,025 rows, outputs, columns.
FASTEST = [
    (1, 1024, 128),
    (1, 4096, 192),
    (2, 1024, 192),
    (2, 4096, 192),
    (4, 1024, 256),
    (4, 4096, 256),
    (6, 1024, 128),
    (8, 1024, 256),
    (8, 4096, 256),
    (13, 1024, 192),
    (13, 4096, 256),
]


@pytest.mark.parametrize(("tiles", "outputs", "columns"), FASTEST)
def test_the_width_is_the_one_that_was_fastest(tiles: int, outputs: int, columns: int) -> None:
    assert rows_cut(tiles * 1025, outputs, **H200).columns == columns


def test_pairs_share_weights_where_few_are_half_empty() -> None:
    assert rows_cut(8 * 1025, 4096, **H200).cluster == 2
    assert rows_cut(4 * 1025, 1024, **H200).cluster == 1  # 33 tiles of rows


def test_blocks_that_stay_are_no_more_than_tiles() -> None:
    cut = RowsCut(columns=256, cluster=2, stages=4)
    assert cut.num_blocks(129, 257, num_sms=132) == 4
    assert cut.num_blocks(257, 257, num_sms=3) == 2
    assert cut.num_blocks(8192, 28672, num_sms=132) == 132


@pytest.mark.parametrize(("columns", "cluster"), CUTS)
def test_a_ring_has_four_stages_at_least_and_fits(columns: int, cluster: int) -> None:
    cut = make_cut(columns, cluster, bytes_per_block=H200["bytes_per_block"])
    assert cut.stages >= 4
    assert cut.shared_bytes <= H200["bytes_per_block"]


@pytest.mark.parametrize(("tiles", "fills"), [(1, False), (2, False), (3, True), (8, True), (13, True)])
def test_a_narrow_layer_fills_the_gpu_from_three_tiles_on(tiles: int, fills: bool) -> None:
    cut = rows_cut(tiles * 1025, 1024, **H200)
    assert (cut.fill(tiles * 1025, 1024, num_sms=132) >= 0.6) == fills
