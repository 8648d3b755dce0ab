"""How products of many rows are cut into tiles."""

import pytest

from engines.turbomind.ops.tiles_cut import TilesCut, make_cut, tiles_cut

H200 = {"num_sms": 132, "bytes_per_block": 227 * 1024}


@pytest.mark.parametrize("columns", [128, 256])
def test_the_ring_takes_what_the_result_leaves_of_shared_memory(columns: int) -> None:
    cut = make_cut(columns, 2, bytes_per_block=H200["bytes_per_block"])
    assert cut.stages == {128: 6, 256: 4}[columns]
    assert cut.shared_bytes <= H200["bytes_per_block"]


@pytest.mark.parametrize(
    ("num_rows", "outputs", "columns", "cluster"),
    [
        (8192, 28672, 256, 2),  # pairs and single tiles have 55 turns; pairs read weights once for two
        (1024, 6144, 128, 2),  # three turns of narrow pairs, two of wide ones
        (512, 4096, 128, 2),  # one turn
        (300, 28672, 256, 1),  # three tiles of rows: the second pair would be half empty
        (300, 4096, 128, 1),
    ],
)
def test_the_busiest_multiprocessor_decides(num_rows: int, outputs: int, columns: int, cluster: int) -> None:
    cut = tiles_cut(num_rows, outputs, **H200)
    assert (cut.columns, cut.cluster) == (columns, cluster)


def test_blocks_that_stay_are_no_more_than_tiles() -> None:
    cut = TilesCut(columns=256, cluster=2, stages=4)
    assert cut.num_blocks(129, 257, num_sms=132) == 4
    assert cut.num_blocks(257, 257, num_sms=3) == 2
    assert cut.num_blocks(8192, 28672, num_sms=132) == 132
