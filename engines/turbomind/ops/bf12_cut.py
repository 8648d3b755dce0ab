"""How `kernels/linear_bf12.cu` cuts a product: pure arithmetic on sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from engines.quant.bf12_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
from engines.turbomind.gpu import Constants
from engines.turbomind.ops.two_rings_cut import (
    GROUP_OUTPUTS,
    MOST_WARPGROUPS,
    Shape,
    TwoRingsCut,
    first_that_fits,
    has_registers,
    rings,
    rows_of_cut,
)

_MOST_TURNS = 3  # at the slabs of a group: a fourth is no faster, kernels/LOG.md
_WIDE_ROWS = 128  # of whose sums so few registers are left that less is unpacked at once
_GROUP_BYTES = GROUP_OUTPUTS // TILE_OUTPUTS * TILE_BYTES  # of a slab, the 128 inputs of a stage
_KB_WITH_BARRIERS = 1024 + 8  # stages of x have 2 KB and more
# KB of x under way, by rows, where a block has one group of outputs and where it has several: kernels/LOG.md.
_X_KB = {8: 32, 16: 64, 32: 96, 64: 144, 128: 128}
_X_KB_OF_SEVERAL = {8: 32, 16: 32, 32: 96, 64: 96, 128: 128}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bf12Cut(TwoRingsCut):
    """A cut of `linear_bf12`; a stage of codes is a group's slab."""

    steps: int  # of 16 inputs that are unpacked at once

    def constants(self) -> Constants:
        """Return what the kernel is compiled with."""
        return (*self.frame(), ("STEPS", self.steps))


@lru_cache(maxsize=256)
def bf12_cut(
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    num_sms: int,
    bytes_per_block: int,
    gated: bool = False,
    kept_bytes: int = 0,
) -> Bf12Cut | None:
    """Return the preferred cut that fits, or None where none does: too little shared memory, too few inputs.

    `outputs` are those that are multiplied; `kept_bytes` of a block's memory are for others.
    """
    rows = rows_of_cut(num_rows)
    make = partial(
        make_cut,
        rows=rows,
        inputs=inputs,
        shared_bytes=bytes_per_block,
        gated=gated,
        kept_bytes=kept_bytes,
    )
    return first_that_fits(make, _preferences(-(-outputs // GROUP_OUTPUTS) / num_sms, gated=gated))


def _preferences(groups_an_sm: float, *, gated: bool) -> Iterator[Shape]:
    """Yield shapes, best first: one block an SM, as many of them as there are SMs."""
    if groups_an_sm <= 0.5:
        yield from (Shape(1, _MOST_TURNS, 2), Shape(1, 2, 2))
    waves = math.ceil(groups_an_sm / MOST_WARPGROUPS)
    groups = math.ceil(groups_an_sm / waves)
    groups += groups % 2 if gated else 0
    yield Shape(groups, min(_MOST_TURNS, MOST_WARPGROUPS // groups), 1)
    yield Shape(2, 1, 1)  # gates need two
    yield Shape(1, 1, 1)


def make_cut(
    *,
    rows: int,
    inputs: int,
    shared_bytes: int,
    groups: int,
    turns: int = 1,
    cluster: int = 1,
    gated: bool = False,
    x_bytes: int | None = None,
    kept_bytes: int = 0,
) -> Bf12Cut | None:
    """Return a cut whose rings fill what a block has of shared memory, or None where there is none.

    A given `x_bytes` replaces the preferred share of the ring of x (benchmarks), which gives what is kept for
    others: a stage of codes is larger and comes a few at a time.
    """
    if x_bytes is None:
        x_bytes = (_X_KB if groups == 1 else _X_KB_OF_SEVERAL)[rows] * _KB_WITH_BARRIERS
    steps = 2 if rows >= _WIDE_ROWS and groups * turns > 3 else 4
    if (
        cluster > 2
        or (gated and (groups % 2 or cluster > 1))
        or not has_registers(rows, groups * turns, 11 * steps)
    ):
        return None
    found = rings(
        rows=rows,
        slabs=-(-(inputs // TILE_INPUTS) // cluster),
        group_bytes=_GROUP_BYTES,
        groups=groups,
        turns=turns,
        x_bytes=x_bytes,
        shared_bytes=shared_bytes,
        kept_bytes=kept_bytes,
    )
    if found is None:
        return None
    return Bf12Cut(
        rows=rows,
        groups=groups,
        gated=gated,
        turns=turns,
        cluster=cluster,
        steps=steps,
        **found._asdict(),
    )
