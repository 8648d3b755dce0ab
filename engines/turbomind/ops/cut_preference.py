"""Which cuts of `kernels/linear_hopper.cu` are wanted for a product, best first: pure arithmetic on sizes.

What decides is how many blocks of 64 outputs a layer has for each SM. The figures behind the rules are those
of an H200, `kernels/LOG.md`; layers of other sizes follow from the cost of a block.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["dense", "e4m3", "int8"]

_OUTPUTS_A_GROUP = 64
_MOST_GROUPS = 4
# What a block costs beside its outputs, in outputs: rows of x come from L2, four times as fast as weights
# from memory; the start and the end are those of 16 outputs.
_ROWS_AN_OUTPUT = 4
_BLOCK_COST = 16
_FEW_ROWS = 16  # of 8-bit codes: one block an SM, which has all its shared memory, reads the fastest
_SOME_ROWS = 128  # up to which blocks with all inputs of few outputs beat pairs that halve them
# Of e4m3: beyond, sums in two places take more than the 96 registers with which two blocks of nine warps fit
# into the quarters of an SM.
_MOST_ROWS_OF_TWO = 64
_FEW_WAVES = 8  # of blocks of 64 outputs, up to which equal ones pay
_LAST_WAVE = 0.5  # of a wave: the SMs that have nothing left to do


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """A cut without its ring; the fields are those of `HopperCut`."""

    groups: int
    k_groups: int
    cluster: int
    ring: Literal["half", "full", "long"]  # of the shared memory; long: full, and only where refilled often
    group_outputs: int = _OUTPUTS_A_GROUP


def preferences(kind: Kind, *, rows: int, outputs: int, num_sms: int) -> Iterator[Preference]:
    """Yield the cuts of a product of `rows` x `outputs`, best first.

    Half rings let two blocks share an SM, and the next kernel's blocks fetch their first weights early. The
    last ones are for sizes and GPUs on which no earlier one fits.
    """
    tiles = -(-outputs // _OUTPUTS_A_GROUP)
    if kind != "dense":
        yield from _bytes(kind, rows, outputs, num_sms)
    elif tiles <= num_sms:
        if 2 * tiles > num_sms and rows <= _SOME_ROWS:
            yield _one_block_an_sm(outputs, num_sms)
        if 2 * tiles <= num_sms:
            yield Preference(groups=1, k_groups=1, cluster=2, ring="long")
        yield Preference(groups=1, k_groups=1, cluster=2, ring="half")
        yield Preference(groups=1, k_groups=1, cluster=1, ring="half")
    else:
        if tiles <= _FEW_WAVES * num_sms:
            yield from _many(rows, outputs, num_sms, half=True)
        for groups in _groups_by_cost(rows, tiles, 2 * num_sms):
            yield Preference(groups=groups, k_groups=1, cluster=1, ring="half")
    few = 2 * tiles <= num_sms
    for cluster in (2, 1) if few else (1,):
        for groups in _groups_by_cost(rows, tiles, num_sms):
            yield Preference(groups=groups, k_groups=1, cluster=cluster, ring="full")


def _many(rows: int, outputs: int, num_sms: int, *, half: bool) -> Iterator[Preference]:
    """Yield cuts of many outputs: blocks of equal size, two an SM with `half`, then one."""
    rings: tuple[tuple[Literal["half", "full"], int], ...] = (("half", 2 * num_sms), ("full", num_sms))
    for ring, blocks_at_once in rings[not half :]:
        groups, group_outputs = _equal_blocks(rows, outputs, blocks_at_once)
        yield Preference(groups=groups, k_groups=1, cluster=1, ring=ring, group_outputs=group_outputs)


def _one_block_an_sm(outputs: int, num_sms: int) -> Preference:
    """Return the cut whose blocks have one group of outputs each, at which two warpgroups take turns."""
    group_outputs = math.ceil(outputs / num_sms / 8) * 8
    return Preference(groups=1, k_groups=2, cluster=1, ring="full", group_outputs=group_outputs)


def _bytes(kind: Kind, rows: int, outputs: int, num_sms: int) -> Iterator[Preference]:
    """Yield cuts of 8-bit codes: pairs of blocks for few outputs, blocks of equal size for many."""
    blocks_an_sm = -(-outputs // _OUTPUTS_A_GROUP) / num_sms
    few_rows = rows <= _FEW_ROWS
    if blocks_an_sm > 1:
        registers_of_two = kind != "e4m3" or rows <= _MOST_ROWS_OF_TWO
        yield from _many(rows, outputs, num_sms, half=registers_of_two and not few_rows)
        return
    if blocks_an_sm > 0.5 and few_rows:
        yield _one_block_an_sm(outputs, num_sms)
    if blocks_an_sm <= 0.5:
        yield Preference(groups=1, k_groups=2 if rows <= _OUTPUTS_A_GROUP else 1, cluster=2, ring="long")
    yield Preference(groups=1, k_groups=1, cluster=2, ring="half")
    yield Preference(groups=1, k_groups=1, cluster=1, ring="half")


def _groups_by_cost(rows: int, tiles: int, blocks_at_once: int) -> list[int]:
    """Return 1 to 4 groups, the cheapest first; of equals the larger, which reads x less often."""

    def cost(groups: int) -> tuple[float, int]:
        waves = -(-tiles // groups) / blocks_at_once
        block = _OUTPUTS_A_GROUP * groups + rows / _ROWS_AN_OUTPUT + _BLOCK_COST
        return (1.0 if waves <= 1 else waves + _LAST_WAVE) * block, -groups

    return sorted(range(1, _MOST_GROUPS + 1), key=cost)


def _equal_blocks(rows: int, outputs: int, blocks_at_once: int) -> tuple[int, int]:
    """Return groups and outputs of a group, a multiple of 8, of which blocks fill whole waves."""

    def share(groups: int) -> int:
        waves = math.ceil(outputs / (blocks_at_once * groups * _OUTPUTS_A_GROUP))
        return math.ceil(outputs / (blocks_at_once * waves * groups) / 8) * 8

    def cost(groups: int) -> tuple[float, int]:
        block = share(groups) * groups
        waves = math.ceil(math.ceil(outputs / block) / blocks_at_once)
        return waves * (block + rows / _ROWS_AN_OUTPUT + _BLOCK_COST), -groups

    groups = min(range(1, _MOST_GROUPS + 1), key=cost)
    return groups, share(groups)
