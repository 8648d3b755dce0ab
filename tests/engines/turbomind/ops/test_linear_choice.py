from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest

from engines.turbomind.ops import linear_skinny_bf12
from engines.turbomind.ops.hopper_cut import Kind
from engines.turbomind.ops.linear_choice import gates, reads_bf12, reads_fp7, way
from engines.weights.decode_copy import most_rows


def test_a_product_takes_the_way_that_was_measured_to_be_the_fastest() -> None:
    def ways(kind: Kind, outputs: int) -> str:
        rows = (1, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257)
        return "".join(way(kind, num_rows=num, outputs=outputs, num_sms=132)[0] for num in rows)

    o, qkv, gate_up, head = 4096, 6144, 28672, 92608
    assert [ways("dense", outputs) for outputs in (o, qkv, gate_up, head)] == [
        "sshhhhhhlll",
        "sshhhhhhlll",
        "sshhhhhheel",
        "sshhhhlllll",
    ]
    assert [ways("e4m3", outputs) for outputs in (o, qkv, gate_up)] == [
        "hhhhhhhhhhl",
        "hhhhhhhhlll",
        "hhhhhhllell",
    ]
    assert {ways("int8", outputs) for outputs in (o, qkv, gate_up)} == {"hhhhhhhhhht"}
    gated = {
        kind: [rows for rows in range(2000) if gates(kind, num_rows=rows, outputs=gate_up, num_sms=132)]
        for kind in get_args(Kind)
    }
    assert gated == {
        "dense": [*range(17, 257), *range(1024, 2000)],
        "e4m3": [*range(1, 193)],
        "int8": [*range(1, 129), *range(257, 2000)],
    }
    assert gates("int8", num_rows=128, outputs=gate_up, num_sms=132) == "hopper"
    assert gates("e4m3", num_rows=129, outputs=gate_up, num_sms=132) == "even"
    assert gates("int8", num_rows=257, outputs=gate_up, num_sms=132) == "tiles"
    assert not gates("dense", num_rows=64, outputs=o, num_sms=132)


Reads = Callable[..., bool]


def most(reads: Reads, outputs: int, *, gated: bool = False) -> int:
    rows = range(1, 1100)
    reading = [n for n in rows if reads(num_rows=n, outputs=outputs, num_sms=132, gated=gated)]
    assert reading == [*rows[: len(reading)]]
    return len(reading)


@pytest.mark.parametrize("reads", [reads_bf12, reads_fp7])
def test_a_copy_is_read_where_that_was_measured_to_be_faster(reads: Reads) -> None:
    o, qkv, gate_up, head = 4096, 6144, 28672, 92608
    assert [most(reads, outputs) for outputs in (o, qkv, gate_up, head)] == [64, 64, 128, 128]
    assert [most(reads, outputs, gated=True) for outputs in (o, qkv, gate_up)] == [0, 0, 128]


def test_12_bits_alone_are_read_by_more_rows_as_others_unpack_them_first() -> None:
    o, qkv, gate_up, head = 4096, 6144, 28672, 92608
    alone = partial(reads_bf12, alone=True)
    assert [most(alone, outputs) for outputs in (o, qkv, gate_up, head)] == [384, 256, 1024, 1024]
    assert [most(alone, outputs, gated=True) for outputs in (o, qkv, gate_up)] == [0, 0, 1024]


def test_the_plan_has_rows_read_a_copy_as_far_as_the_kernels_do() -> None:
    assert most(reads_bf12, 92608) == most_rows("bf12", (9, 0))
    assert most(reads_fp7, 28672) == most_rows("fp7", (9, 0))
    assert most_rows("bf12", linear_skinny_bf12.LEAST_CAPABILITY) == linear_skinny_bf12.MOST_ROWS
