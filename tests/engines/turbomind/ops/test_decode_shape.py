"""Cuts of decode attention fit the GPU and follow the work."""

import pytest

from engines.errors import KernelError
from engines.options import KvFormat
from engines.turbomind.ops.decode_shape import decode_shape, num_workers, shared_bytes


@pytest.mark.parametrize("segments", [8, 200, 2048])
@pytest.mark.parametrize(("block", "sm"), [(232448, 233472), (101376, 102400), (65536, 65536)])
def test_the_shape_that_is_chosen_fits_the_gpu(segments: int, block: int, sm: int) -> None:
    for dim in (64, 96, 128, 256):
        for group in (1, 4, 8, 16):
            shape = decode_shape(
                segments=segments, dim=dim, group=group, bytes_per_block=block, bytes_per_sm=sm
            )
            needed = shared_bytes(warps=shape.warps, stages=shape.stages, dim=dim, group=group)
            assert shape.shared_bytes == needed <= block
            assert shape.blocks_per_sm * (needed + 1024) <= sm


def codes_shape(segments: int, dim: int, group: int, format: KvFormat = "int8") -> tuple[int, int]:
    shape = decode_shape(
        segments=segments,
        dim=dim,
        group=group,
        bytes_per_block=232448,
        bytes_per_sm=233472,
        format=format,
    )
    return shape.warps, shape.blocks_per_sm


def test_sixteen_warps_take_quantized_pages_where_their_registers_are_enough() -> None:
    assert [codes_shape(512, 128, 4), codes_shape(512, 128, 8), codes_shape(512, 64, 1)] == [(4, 4)] * 3
    assert [codes_shape(512, 256, 4), codes_shape(512, 128, 16), codes_shape(512, 64, 16)] == [(4, 2)] * 3


def test_twelve_warps_take_pages_of_12_bits_where_their_rings_fit() -> None:
    assert [codes_shape(*case, "bf12") for case in ((8, 128, 4), (72, 128, 4))] == [(8, 1), (6, 2)]
    assert [codes_shape(*case, "bf12") for case in ((512, 64, 16), (512, 256, 4))] == [(6, 2), (4, 1)]


def test_blocks_are_larger_while_segments_of_quantized_pages_are_shared() -> None:
    assert [codes_shape(segments, 128, 4) for segments in (8, 256, 257)] == [(8, 1), (8, 2), (4, 4)]


def test_blocks_of_few_segments_form_pairs_where_these_keep_half_of_a_gpu_busy() -> None:
    assert [cluster(segments, 132) for segments in (8, 24, 32, 64, 72)] == [1, 1, 2, 2, 1]
    assert cluster(32, 0) == 1


def test_two_blocks_an_sm_form_pairs_where_these_keep_most_of_a_gpu_busy() -> None:
    segments = (64, 72, 92, 93, 132, 133, 256)
    assert [cluster(number, 132, "int8") for number in segments] == [2, 1, 1, 2, 2, 1, 1]
    assert [cluster(number, 132, "fp8") for number in segments] == [2, 1, 1, 2, 2, 1, 1]
    assert [cluster(number, 132, "int4") for number in segments] == [2, 1, 1, 1, 1, 1, 1]
    assert [cluster(number, 0, "int8") for number in segments] == [1] * 7


def cluster(segments: int, cluster_sms: int, format: KvFormat = "none") -> int:
    shape = decode_shape(
        segments=segments,
        dim=128,
        group=4,
        bytes_per_block=232448,
        bytes_per_sm=233472,
        format=format,
        cluster_sms=cluster_sms,
    )
    cut = {"warps": shape.warps, "stages": shape.stages, "cluster": shape.cluster}
    assert shape.shared_bytes == shared_bytes(dim=128, group=4, format=format, **cut)
    assert shape.blocks_per_sm * (shape.shared_bytes + 1024) <= 233472
    return shape.cluster


def test_a_gpu_without_room_is_told_so() -> None:
    with pytest.raises(KernelError, match="more shared memory than the 1000 bytes"):
        decode_shape(segments=1, dim=128, group=4, bytes_per_block=1000, bytes_per_sm=1000)


def test_equal_sequences_are_cut_at_their_ends_where_that_wastes_little() -> None:
    assert num_workers(264, 256) == 256
    assert num_workers(264, 2048) == 256
    assert num_workers(264, 64) == 256
    assert num_workers(132, 8) == 128
    assert num_workers(264, 100) == 264  # 200 would leave a quarter idle
    assert num_workers(264, 2 * 263) == 263
    assert num_workers(132, 0) == 132
