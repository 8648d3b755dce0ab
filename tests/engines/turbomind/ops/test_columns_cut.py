"""Tiles whose columns are rows of x: what fits into a block, and which products take them."""

import pytest

from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.columns_choice import columns_choice, columns_us
from engines.turbomind.ops.columns_cut import TILES, ColumnsCut, make_cut

H200 = {"num_sms": 132, "bytes_per_block": 232448}
EVERY = [(*tile, 1) for tile in TILES] + [(*tile, 2) for tile in TILES if tile[1] == 2]


@pytest.mark.parametrize(("rows", "groups", "cluster"), EVERY)
def test_a_ring_fits_and_has_a_place_for_each_group(rows: int, groups: int, cluster: int) -> None:
    cut = make_cut(rows, groups, cluster, bytes_per_block=H200["bytes_per_block"])
    assert cut.shared_bytes <= H200["bytes_per_block"]
    assert cut.stages >= max(4, groups)


def test_blocks_are_those_of_whole_tiles_and_of_shares_of_inputs() -> None:
    assert ColumnsCut(rows=176, groups=3, cluster=1, stages=4).num_blocks(1025, 4096) == 132
    assert ColumnsCut(rows=144, groups=2, cluster=2, stages=4).num_blocks(1025, 1024) == 128


# Measured on an H200, kernels/LOG.md: tiles of 1,025 rows, outputs, inputs, what follows, and whether these
# tiles were faster than `linear_rows` and the library with an op.
MEASURED: list[tuple[int, int, int, After, bool]] = [
    (1, 1024, 1024, "add", True),
    (1, 4096, 1024, "gelu", True),
    (1, 3072, 1024, "nothing", True),  # in whole passes; alone 13.1 us against 12.7
    (1, 1024, 4096, "add", True),
    (2, 1024, 1024, "add", True),
    (2, 4096, 1024, "gelu", False),
    (3, 1024, 1024, "add", True),
    (3, 1024, 4096, "add", True),
    (4, 1024, 1024, "add", False),
    (4, 4096, 1024, "gelu", False),
    (4, 1024, 4096, "add", False),
    (8, 1024, 1024, "add", False),
    (8, 4096, 1024, "gelu", False),
    (8, 1024, 4096, "add", False),
]


@pytest.mark.parametrize(("tiles", "outputs", "inputs", "after", "faster"), MEASURED)
def test_products_take_them_where_they_were_faster(
    tiles: int, outputs: int, inputs: int, after: After, faster: bool
) -> None:
    cut = columns_choice(tiles * 1025, outputs, inputs, after, **H200)
    assert (cut is not None) == faster
    assert cut is None or cut.num_blocks(tiles * 1025, outputs) <= H200["num_sms"]


def test_few_rows_are_left_to_the_library() -> None:
    assert columns_choice(511, 1024, 1024, "add", **H200) is None


# Microseconds on an H200, kernels/LOG.md: rows of a tile, groups, cluster, inputs, what follows.
TIMES: list[tuple[int, int, int, int, After, float]] = [
    (80, 2, 1, 1024, "add", 7.1),
    (176, 3, 1, 1024, "nothing", 15.6),
    (176, 3, 1, 1024, "gelu", 17.6),
    (144, 2, 2, 4096, "add", 17.3),
    (80, 2, 1, 4096, "add", 17.6),
    (208, 2, 1, 1024, "nothing", 13.1),
    (256, 2, 1, 1024, "nothing", 15.0),
]


@pytest.mark.parametrize(("rows", "groups", "cluster", "inputs", "after", "us"), TIMES)
def test_a_tile_takes_about_what_was_measured(
    rows: int, groups: int, cluster: int, inputs: int, after: After, us: float
) -> None:
    cut = make_cut(rows, groups, cluster, bytes_per_block=H200["bytes_per_block"])
    assert columns_us(cut, inputs, after) == pytest.approx(us, rel=0.11)
