"""How `kernels/linear_int4_hopper.cu` cuts a product: pure arithmetic on sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from engines.turbomind.gpu import Constants
from engines.turbomind.ops.two_rings_cut import GROUP_OUTPUTS, ROWS, TwoRingsCut

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
_ALIGNMENT = 1024  # of the rings; the launcher's memory may start below
_GROUP_BYTES = 4096  # codes of a group's slab
_SCALE_BYTES = 3  # a scale and a zero point
_BARRIER_BYTES = 16  # full and empty, a stage
# Under way: more lose time where x comes late behind them, kernels/LOG.md.
_CODE_BYTES = {8: 100 * 1024, 16: 50 * 1024, 32: 50 * 1024, 64: 50 * 1024, 128: 50 * 1024}
_MOST_STAGES = 24


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
    rows = next((rows for rows in ROWS if rows >= num_rows), ROWS[-1])
    for groups, turns, cluster in _preferences(rows, -(-outputs // GROUP_OUTPUTS) / num_sms):
        cut = make_cut(
            rows=rows,
            inputs=inputs,
            group_size=group_size,
            shared_bytes=bytes_per_block,
            groups=groups,
            turns=turns,
            cluster=cluster,
            gated=gated,
        )
        if cut is not None:
            return cut
    return None


def _preferences(rows: int, groups_an_sm: float) -> Iterator[tuple[int, int, int]]:
    """Yield groups, turns and cluster, best first: a wave of blocks, as many warpgroups as registers hold."""
    most = _MOST_WARPGROUPS[rows]
    if groups_an_sm <= 0.5:
        yield from ((1, turns, 2) for turns in range(min(_MOST_TURNS[rows], _PAIR_TURNS), 0, -1))
    waves = math.ceil(groups_an_sm / most)
    groups = math.ceil(groups_an_sm / waves)
    yield from ((groups, turns, 1) for turns in range(min(_MOST_TURNS[rows], most // groups), 0, -1))
    yield (2, 1, 1)  # gates need two


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
    fixed = _ALIGNMENT + share_groups * GROUP_OUTPUTS * groups * _SCALE_BYTES
    code_stage, x_stage = groups * _GROUP_BYTES + _BARRIER_BYTES, rows * 2 * SLAB + _BARRIER_BYTES
    most = max(2, min(_MOST_STAGES, slabs)) + turns - 1
    under_way = (code_bytes or _CODE_BYTES[rows]) // code_stage
    code_stages = _whole_turns(max(2, turns, min(most, under_way)), turns)
    x_stages = _whole_turns(min(most, (shared_bytes - fixed - code_stages * code_stage) // x_stage), turns)
    if x_stages < 2 or slabs < turns:
        return None
    ring = code_stages * (code_stage - _BARRIER_BYTES) + x_stages * (x_stage - _BARRIER_BYTES)
    sums = turns * rows * (GROUP_OUTPUTS * groups + 4) * 4
    return Int4Cut(
        rows=rows,
        groups=groups,
        gated=gated,
        turns=turns,
        cluster=cluster,
        code_stages=code_stages,
        x_stages=x_stages,
        share_groups=share_groups,
        shared_bytes=fixed + (code_stages + x_stages) * _BARRIER_BYTES + max(ring, sums),
    )


def _whole_turns(stages: int, turns: int) -> int:
    """Return the most stages up to so many that are a power of two for each turn; 0 where there are none."""
    visits = stages // turns
    return turns << (visits.bit_length() - 1) if visits > 0 else 0
