"""Which cut of the Hopper attention kernels runs where."""

import pytest

from engines.turbomind.ops.hopper_shape import box_keys, full_shape, prefill_shape

SHARED_BYTES = 232448  # of a block on sm_90: CUDA C++ Programming Guide 13.0
PREFILL = {"dim": 128, "page_tokens": 64, "items": 512, "num_sms": 132}


@pytest.mark.parametrize("dim", [64, 72, 80, 88, 96, 104, 112, 128, 160, 192, 256])
def test_every_cut_fits_into_the_shared_memory_of_a_block(dim: int) -> None:
    for shape in (full_shape((9, 0), dim=dim), prefill_shape((9, 0), **PREFILL | {"dim": dim})):
        assert shape is not None
        assert shape.shared_bytes(dim) <= SHARED_BYTES


def test_other_gpus_and_odd_heads_have_none() -> None:
    assert prefill_shape((8, 9), **PREFILL) is None
    assert prefill_shape((10, 0), **PREFILL) is None
    assert prefill_shape((9, 0), **PREFILL | {"dim": 100}) is None
    assert prefill_shape((9, 0), **PREFILL | {"dim": 240}) is None  # no product of 240 columns is written out
    assert prefill_shape((9, 0), **PREFILL | {"page_tokens": 4}) is None
    assert full_shape((8, 0), dim=64) is None
    assert full_shape((9, 0), dim=36) is None


def test_few_items_are_halved() -> None:
    many, few = prefill_shape((9, 0), **PREFILL), prefill_shape((9, 0), **PREFILL | {"items": 66})
    assert many is not None
    assert few is not None
    assert (many.rows, few.rows) == (128, 64)


def test_a_box_lies_in_one_page_and_in_one_tile() -> None:
    assert [box_keys(128, page) for page in (16, 64, 128, 256)] == [16, 64, 128, 128]
    assert box_keys(80, 64) == 16
