"""Which kernel takes a linear layer: what was measured to be the fastest at its number of rows.

Ours stream weights once and win where few rows use each weight; above that cuBLASLt does, through torch, but
for int8, whose scales it does not take. Whether a kernel can take a layer is asked of the kernel (`fits`).
"""

from typing import Literal

from engines.turbomind.ops import linear_skinny
from engines.turbomind.ops.hopper_cut import OUTPUTS_A_GROUP, Kind

Way = Literal["skinny", "hopper", "even", "tiles", "library"]

# The most rows that `linear_hopper` takes in less time than the library, on an H200 (kernels/LOG.md), for
# layers of at most half a block of 64 outputs an SM, one, eight, and more.
_BLOCKS_AN_SM = (0.5, 1.0, 8.0)
_MOST_HOPPER_ROWS: dict[Kind, tuple[int, int, int, int]] = {
    "dense": (128, 128, 128, 64),
    "e4m3": (256, 128, 64, 64),
    "int8": (256, 256, 256, 256),
}
# What multiplies more rows. Sums of int8 leave the library as int32, and scaling them takes longer than they.
_MANY_ROWS: dict[Kind, Way] = {"dense": "library", "e4m3": "library", "int8": "tiles"}
# Rows that `linear_even` takes in less time than others, gated or not: layers of one to eight blocks an SM.
_EVEN_ROWS: dict[Kind, range] = {
    "dense": range(129, 257),
    "e4m3": range(129, 193),
    "int8": range(0),
}
# Rows whose gates `linear_hopper` applies in less time than the op does, for layers of more than one block of
# 64 outputs an SM.
_GATED_ROWS: dict[Kind, range] = {
    "dense": range(linear_skinny.MOST_ROWS + 1, 129),
    "e4m3": range(1, 129),
    "int8": range(1, 129),
}
# The least rows whose gates `linear_tiles` applies in whole steps of less time. Of e4m3 the library's product
# and codes that are made with the gate are faster.
_GATED_TILES: dict[Kind, int | None] = {"dense": 1024, "e4m3": None, "int8": 257}
# The most rows that `linear_bf12` takes in less time than all others that read 16 bits, for the same layers.
_MOST_BF12_ROWS = (64, 64, 128, 128)
# The same where there is nothing but the 12 bits, which other kernels take unpacked: blocks of 128 rows share
# the weights in L2.
_MOST_BF12_ALONE_ROWS = (384, 256, 1024, 1024)
# The most rows that `linear_fp7` takes in less time than all others that read 8 bits.
_MOST_FP7_ROWS = (64, 64, 128, 128)


def reads_bf12(
    *, num_rows: int, outputs: int, num_sms: int, gated: bool = False, alone: bool = False
) -> bool:
    """Return whether a product reads a weight's copy in 12 bits, where there is one and the kernel fits.

    `gated`: and applies the gates to it. `alone`: there is no weight in 16 bits beside it.
    """
    most = _MOST_BF12_ALONE_ROWS if alone else _MOST_BF12_ROWS
    return _reads(most, num_rows=num_rows, outputs=outputs, num_sms=num_sms, gated=gated)


def reads_fp7(*, num_rows: int, outputs: int, num_sms: int, gated: bool = False) -> bool:
    """Return whether a product reads a weight's copy in 7 bits, as `reads_bf12`."""
    return _reads(_MOST_FP7_ROWS, num_rows=num_rows, outputs=outputs, num_sms=num_sms, gated=gated)


def _reads(most: tuple[int, ...], *, num_rows: int, outputs: int, num_sms: int, gated: bool) -> bool:
    too_few_gates = gated and outputs <= OUTPUTS_A_GROUP * num_sms
    return not too_few_gates and num_rows <= most[_size(outputs, num_sms)]


def way(kind: Kind, *, num_rows: int, outputs: int, num_sms: int) -> Way:
    """Return how a product is taken where every way can take it."""
    if kind == "dense" and num_rows <= linear_skinny.MOST_ROWS:
        return "skinny"
    size = _size(outputs, num_sms)
    if size == 2 and num_rows in _EVEN_ROWS[kind]:
        return "even"
    most = _MOST_HOPPER_ROWS[kind][size]
    return "hopper" if num_rows <= most else _MANY_ROWS[kind]


def gates(kind: Kind, *, num_rows: int, outputs: int, num_sms: int) -> Way | None:
    """Return which kernel applies the gates, half of the outputs, to its product; None: an op of its own."""
    least = _GATED_TILES[kind]
    if least is not None and num_rows >= least:
        return "tiles"
    if outputs <= OUTPUTS_A_GROUP * num_sms:
        return None
    if num_rows in _EVEN_ROWS[kind]:
        return "even"
    return "hopper" if num_rows in _GATED_ROWS[kind] else None


def _size(outputs: int, num_sms: int) -> int:
    """Return which of the sizes of layers this is."""
    blocks_an_sm = -(-outputs // OUTPUTS_A_GROUP) / num_sms
    return sum(blocks_an_sm > bound for bound in _BLOCKS_AN_SM)
