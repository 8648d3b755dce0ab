"""Which cut of the Hopper attention kernels runs where."""

from dataclasses import replace
from pathlib import Path

import pytest
from kept_builds import compiler_log

from engines.options import KvFormat
from engines.turbomind.kernel_source import read_kernel
from engines.turbomind.nvrtc import resource_usage
from engines.turbomind.ops.hopper_shape import MOST_LONE, box_keys, codes_shape, full_shape, prefill_shape
from engines.turbomind.ops.kv_pool import KV_FORMATS

SHARED_BYTES = 232448  # of a block on sm_90: CUDA C++ Programming Guide 13.0
FULL = {"dim": 64, "length": 1025, "pairs": 16, "num_sms": 132}
PREFILL = {"dim": 128, "page_tokens": 64, "items": 512, "num_sms": 132}


@pytest.mark.parametrize("dim", [64, 72, 80, 88, 96, 104, 112, 128, 160, 192, 256])
def test_every_cut_fits_into_the_shared_memory_of_a_block(dim: int) -> None:
    for shape in (full_shape((9, 0), **FULL | {"dim": dim}), prefill_shape((9, 0), **PREFILL | {"dim": dim})):
        assert shape is not None
        assert shape.shared_bytes(dim) <= SHARED_BYTES


@pytest.mark.parametrize("format", ["bf12", "int8", "int4", "fp8"])
@pytest.mark.parametrize("dim", [64, 96, 128, 192, 256])
def test_tiles_of_codes_fit_beside_those_of_numbers(dim: int, format: KvFormat) -> None:
    shape = codes_shape((9, 0), **PREFILL | {"dim": dim}, format=format)
    assert shape is not None
    assert replace(shape, code_stages=0).shared_bytes(dim) < shape.shared_bytes(dim, format) <= SHARED_BYTES
    assert (
        codes_shape((9, 0), **PREFILL | {"dim": 160}, format=format) is None
    )  # its rows are no whole column blocks


@pytest.mark.parametrize(
    ("dim", "format", "items"),
    [
        (128, "bf12", 512),
        (128, "bf12", 8),
        (64, "bf12", 512),
        (256, "bf12", 512),
        (128, "int8", 512),
        (128, "int4", 512),
        (128, "fp8", 512),
        (128, "fp8", 8),
        (96, "int8", 512),
        (64, "int4", 8),
        (256, "int8", 512),
    ],
)
def test_cuts_over_codes_compile_without_spills(dim: int, format: KvFormat, items: int, builds: Path) -> None:
    shape = codes_shape((9, 0), **PREFILL | {"dim": dim, "items": items}, format=format)
    assert shape is not None
    pool = {"KV_HEADS": 8, "GROUP": 4, "PAGE_TOKENS": 64, "BOX_KEYS": 64, "WINDOW": 0}
    constants = {**dict(shape.constants("bf16", dim)), **pool, "KV_FORMAT": KV_FORMATS[format]}
    source = read_kernel("attention_prefill_hopper.cu")
    log = compiler_log(builds, source, arch="sm_90a", constants=constants)
    assert "Performance Loss" not in log, "products of a warpgroup wait for each other"
    (usage,) = resource_usage(log).values()
    assert not usage.spill_bytes
    assert not usage.stack_bytes


def test_other_gpus_and_odd_heads_have_none() -> None:
    assert prefill_shape((8, 9), **PREFILL) is None
    assert prefill_shape((10, 0), **PREFILL) is None
    assert prefill_shape((9, 0), **PREFILL | {"dim": 100}) is None
    assert prefill_shape((9, 0), **PREFILL | {"dim": 240}) is None  # no product of 240 columns is written out
    assert prefill_shape((9, 0), **PREFILL | {"page_tokens": 4}) is None
    assert full_shape((8, 0), **FULL) is None
    assert full_shape((9, 0), **FULL | {"dim": 36}) is None


def test_one_tile_is_one_round_of_whole_items_and_queries_beside_them() -> None:
    shape = full_shape((9, 0), **FULL)
    assert shape is not None
    assert (shape.rows, shape.lone) == (128, True)
    assert 16 * shape.num_blocks(1025) == 128


def test_two_tiles_are_one_round_of_four_consumers() -> None:
    shape = full_shape((9, 0), **FULL | {"pairs": 32})
    assert shape is not None
    assert (shape.rows, shape.lone, 32 * shape.num_blocks(1025)) == (256, True, 128)


@pytest.mark.parametrize(
    ("dim", "length", "pairs"), [(64, 1025, MOST_LONE + 1), (64, 1024, 16), (64, 1, 16), (72, 1025, 16)]
)
def test_no_query_is_answered_beside_items_where_it_is_not_single_or_costs_more(
    dim: int, length: int, pairs: int
) -> None:
    shape = full_shape((9, 0), **FULL | {"dim": dim, "length": length, "pairs": pairs})
    assert shape is not None
    assert not shape.lone
    assert shape.num_blocks(length) * shape.rows >= length


def test_few_items_are_halved() -> None:
    many, few = prefill_shape((9, 0), **PREFILL), prefill_shape((9, 0), **PREFILL | {"items": 66})
    assert many is not None
    assert few is not None
    assert (many.rows, few.rows) == (128, 64)


def test_a_box_lies_in_one_page_and_in_one_tile() -> None:
    assert [box_keys(128, page) for page in (16, 64, 128, 256)] == [16, 64, 128, 128]
    assert box_keys(80, 64) == 16
