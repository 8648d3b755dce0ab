"""How `kernels/linear_fp7.cu` cuts a product: pure arithmetic on sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from engines.quant.fp7_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
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

_MOST_TURNS = 3  # at the slabs of a group where a block has one; of several there is one turn
_GROUP_BYTES = GROUP_OUTPUTS // TILE_OUTPUTS * TILE_BYTES  # of a slab, the 256 inputs of a stage
_SCALE_BYTES = 4  # a row
_SCALE_BARRIER_BYTES = 16
_KB_WITH_BARRIERS = 1024 + 8  # stages of x have 2 KB and more
_SHORT_SLABS = 24  # of so many inputs clusters take longer than half of the SMs
_WIDE_ROWS = 64  # of which a third turn's sums leave rings that are too short
# KB of x under way, by rows, where a block has one group of outputs and where it has several, and where one
# has two turns: kernels/LOG.md.
_X_KB = {8: 32, 16: 64, 32: 96, 64: 96, 128: 128}
_X_KB_OF_SEVERAL = {8: 16, 16: 32, 32: 48, 64: 64, 128: 96}
_X_KB_OF_TWO_TURNS = 144
# Registers of the steps that are unpacked at once: two sets of operands and the words of one.
_OPERAND_REGISTERS = {2: 2 * 8 + 7, 4: 2 * 16 + 14}
# Steps unpacked at once, and whether sums are added in fp32: the first that registers allow.
_UNPACKINGS = ((4, True), (2, True), (4, False), (2, False))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp7Cut(TwoRingsCut):
    """A cut of `linear_fp7`; a stage of codes is a group's slab."""

    steps: int  # of 32 inputs that are unpacked at once
    apart: bool  # sums of a slab are added in fp32; else the tensor cores keep them

    def constants(self) -> Constants:
        """Return what the kernel is compiled with."""
        return (*self.frame(), ("STEPS", self.steps), ("APART", int(self.apart)))


@lru_cache(maxsize=256)
def fp7_cut(
    *, num_rows: int, outputs: int, inputs: int, num_sms: int, bytes_per_block: int, gated: bool = False
) -> Fp7Cut | None:
    """Return the preferred cut that fits, or None where none does: too little shared memory, too few inputs.

    `outputs` are those that are multiplied.
    """
    rows = rows_of_cut(num_rows)
    make = partial(make_cut, rows=rows, inputs=inputs, shared_bytes=bytes_per_block, gated=gated)
    groups_an_sm, slabs = -(-outputs // GROUP_OUTPUTS) / num_sms, inputs // TILE_INPUTS
    return first_that_fits(make, _preferences(groups_an_sm, rows=rows, slabs=slabs, gated=gated))


def _preferences(groups_an_sm: float, *, rows: int, slabs: int, gated: bool) -> Iterator[Shape]:
    """Yield shapes, best first: one block an SM, as many of them as there are SMs."""
    if groups_an_sm <= 0.5 and slabs > _SHORT_SLABS:
        yield Shape(1, 2 if rows >= _WIDE_ROWS else _MOST_TURNS, 2)
        yield Shape(1, 2, 2)
    least = 2 if gated or groups_an_sm > 1 else 1
    sizes = range(MOST_WARPGROUPS, least - 1, -2 if gated else -1)
    # The fewest outputs in the SM that has the most; of equals the largest blocks, which fetch x least often.
    groups = min(sizes, key=lambda groups: math.ceil(groups_an_sm / groups) * groups)
    yield Shape(groups, _MOST_TURNS if groups == 1 else 1, 1)
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
    apart: bool | None = None,
) -> Fp7Cut | None:
    """Return a cut whose rings fill what a block has of shared memory, or None where there is none.

    A given `x_bytes` replaces the preferred share of the ring of x, a given `apart` where sums are added
    (benchmarks).
    """
    if x_bytes is None:
        x_bytes = _x_kb(rows, groups=groups, turns=turns) * _KB_WITH_BARRIERS
    unpacking = next(
        (
            (steps, sums)
            for steps, sums in _UNPACKINGS
            if apart in (None, sums)
            and has_registers(rows, groups * turns, _OPERAND_REGISTERS[steps], sums=1 + sums)
        ),
        None,
    )
    if unpacking is None or cluster > 2 or (gated and (groups % 2 or cluster > 1)):
        return None
    scale_bytes = rows * _SCALE_BYTES + _SCALE_BARRIER_BYTES
    found = rings(
        rows=rows,
        slabs=-(-(inputs // TILE_INPUTS) // cluster),
        group_bytes=_GROUP_BYTES,
        groups=groups,
        turns=turns,
        x_bytes=x_bytes,
        shared_bytes=shared_bytes,
        kept_bytes=scale_bytes,
    )
    if found is None:
        return None
    return Fp7Cut(
        rows=rows,
        groups=groups,
        gated=gated,
        turns=turns,
        cluster=cluster,
        steps=unpacking[0],
        apart=unpacking[1],
        code_stages=found.code_stages,
        x_stages=found.x_stages,
        shared_bytes=found.shared_bytes + scale_bytes,
    )


def _x_kb(rows: int, *, groups: int, turns: int) -> int:
    """Return the preferred KB of x under way."""
    if (groups, turns) == (1, 2):
        return _X_KB_OF_TWO_TURNS
    return (_X_KB if groups == 1 else _X_KB_OF_SEVERAL)[rows]
