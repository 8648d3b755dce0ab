"""How `kernels/linear_int4_hopper.cu` cuts a product: pure arithmetic on sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from engines.turbomind.gpu import Constants
from engines.turbomind.ops.two_rings_cut import (
    ALIGNMENT,
    BARRIER_BYTES,
    GROUP_OUTPUTS,
    X_LINE_BYTES,
    Shape,
    TwoRingsCut,
    first_that_fits,
    most_stages,
    ring_bytes,
    rows_of_cut,
)

SLAB = 128  # inputs of a stage
_MOST_WARPGROUPS = {8: 4, 16: 4, 32: 4, 64: 4, 128: 2}  # by rows: that registers hold sums for
_MOST_TURNS = {
    8: 4,
    16: 4,
    32: 4,
    64: 3,
    128: 2,
}  # at the slabs of a group: a fourth lacks registers for 64 rows
_PAIR_TURNS = 3  # of a pair of blocks: a fourth warpgroup waits for codes, kernels/LOG.md
_GROUP_BYTES = 4096  # codes of a group's slab
_SCALE_BYTES = 3  # a scale and a zero point
# Under way: more lose time where x comes late behind them, kernels/LOG.md.
_CODE_BYTES = {8: 100 * 1024, 16: 50 * 1024, 32: 50 * 1024, 64: 50 * 1024, 128: 50 * 1024}


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4Cut(TwoRingsCut):
    """A cut of `linear_int4_hopper`; a stage of codes is a slab of all groups."""

    share_groups: int  # groups of inputs that a block meets at most

    @property
    def box_tiles(self) -> int:
        """Tiles of 16 outputs that a copy of codes takes."""
        return self.width // 16

    def constants(self, scalar: str, group_size: int) -> Constants:
        """Return what the kernel is compiled with."""
        return (
            ("SCALAR", scalar),
            *self.frame(),
            ("GROUP_INPUTS", group_size),
            ("SHARE_GROUPS", self.share_groups),
        )


@lru_cache(maxsize=256)
def int4_cut(
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    group_size: int,
    num_sms: int,
    bytes_per_block: int,
    gated: bool = False,
) -> Int4Cut | None:
    """Return the preferred cut that fits, or None where none does: too little shared memory, too few inputs.

    `outputs` are those that are multiplied.
    """
    rows = rows_of_cut(num_rows)
    make = partial(
        make_cut,
        rows=rows,
        inputs=inputs,
        group_size=group_size,
        shared_bytes=bytes_per_block,
        gated=gated,
    )
    return first_that_fits(make, _preferences(rows, -(-outputs // GROUP_OUTPUTS) / num_sms))


def _preferences(rows: int, groups_an_sm: float) -> Iterator[Shape]:
    """Yield shapes, best first: a wave of blocks, as many warpgroups as registers hold."""
    most = _MOST_WARPGROUPS[rows]
    if groups_an_sm <= 0.5:
        yield from (Shape(1, turns, 2) for turns in range(min(_MOST_TURNS[rows], _PAIR_TURNS), 0, -1))
    waves = math.ceil(groups_an_sm / most)
    groups = math.ceil(groups_an_sm / waves)
    yield from (Shape(groups, turns, 1) for turns in range(min(_MOST_TURNS[rows], most // groups), 0, -1))
    yield Shape(2, 1, 1)  # gates need two


def make_cut(
    *,
    rows: int,
    inputs: int,
    group_size: int,
    shared_bytes: int,
    groups: int,
    turns: int = 1,
    cluster: int = 1,
    gated: bool = False,
    code_bytes: int | None = None,
) -> Int4Cut | None:
    """Return a cut whose rings fill the shared memory, or None where the kernel cannot be cut so.

    `code_bytes`: of the ring of codes; None: what was measured to be the best.
    """
    if groups * turns > _MOST_WARPGROUPS[rows] or (gated and (groups % 2 or cluster > 1)):
        return None
    slabs = -(-(inputs // SLAB) // cluster)
    share_groups = slabs * SLAB // group_size + 2
    scale_bytes = share_groups * GROUP_OUTPUTS * groups * _SCALE_BYTES
    stage_bytes, most = groups * _GROUP_BYTES, most_stages(slabs, turns)
    under_way = min(most, (code_bytes or _CODE_BYTES[rows]) // (stage_bytes + BARRIER_BYTES))
    code_stages = _whole_turns(max(2, turns, under_way), turns)
    left = shared_bytes - ALIGNMENT - scale_bytes - code_stages * (stage_bytes + BARRIER_BYTES)
    x_stages = _whole_turns(min(most, left // (rows * X_LINE_BYTES + BARRIER_BYTES)), turns)
    if x_stages < 2 or slabs < turns:
        return None
    rings = ring_bytes(
        rows=rows,
        groups=groups,
        turns=turns,
        code_stages=code_stages,
        code_bytes=stage_bytes,
        x_stages=x_stages,
    )
    return Int4Cut(
        rows=rows,
        groups=groups,
        gated=gated,
        turns=turns,
        cluster=cluster,
        code_stages=code_stages,
        x_stages=x_stages,
        share_groups=share_groups,
        shared_bytes=scale_bytes + rings,
    )


def _whole_turns(stages: int, turns: int) -> int:
    """Return the most stages up to so many that are a power of two for each turn; 0 where there are none."""
    visits = stages // turns
    return turns << (visits.bit_length() - 1) if visits > 0 else 0
