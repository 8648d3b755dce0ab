"""How `kernels/linear_hopper.cu` cuts a product: pure arithmetic on sizes.

A weight is of one of three kinds; a slab is what a stage holds of the inputs.
"""

from dataclasses import dataclass
from functools import lru_cache

from engines.errors import KernelError
from engines.turbomind.ops.cut_preference import Kind as Kind
from engines.turbomind.ops.cut_preference import Preference, preferences

ROWS = (8, 16, 32, 64, 128, 256)  # of x, as the kernel is compiled for
OUTPUTS_A_GROUP = 64  # of a warpgroup
LINE_INPUTS: dict[Kind, int] = {"dense": 64, "e4m3": 128, "int8": 128}  # in 128 bytes of x
_WEIGHT_BITS: dict[Kind, int] = {"dense": 16, "e4m3": 8, "int8": 8}
_MOST_STAGES = 16
_LEAST_STAGES = 3
_ALIGNMENT = 1024  # of the ring; the launcher's memory may start below
_BARRIER_BYTES = 16  # full and empty, a stage
_RESERVED_BYTES = 1024  # of each block's shared memory, by CUDA
_OFTEN = 3  # fillings of half a ring, from which on a whole one is faster
# The most rows whose accumulators fit into the registers of 1, 2, 3 and 4 warpgroups. tests/kernels holds the
# compiler to it.
_MOST_ROWS: dict[Kind, tuple[int, ...]] = {
    "dense": (256, 256, 128, 128),
    "e4m3": (256, 256, 128, 128),
    "int8": (256, 256, 128, 128),
}
# Of e4m3: slabs whose sums stay in the tensor cores, and the most rows of which registers hold them beside
# those in fp32.
_SUM_SLABS = 4
_MOST_ROWS_APART = (128, 128, 64, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class HopperCut:
    """Blocks of `groups` x `group_outputs` x `rows`; `cluster` blocks share the inputs of an output."""

    rows: int
    groups: int
    group_outputs: int  # of a warpgroup, which multiplies 64
    k_groups: int  # warpgroups that take turns at the stages of a group
    cluster: int
    gated: bool  # half of the groups are gates of the other half's outputs
    lines: int  # of 128 bytes that a stage holds of a row
    stages: int
    sum_slabs: int  # of e4m3: how many a sum stays in the tensor cores; 0: all
    shared_bytes: int

    @property
    def threads(self) -> int:
        """Threads of a block: the warpgroups that multiply and the warp that copies."""
        return 128 * self.groups * self.k_groups + 32

    def num_blocks(self, outputs: int) -> int:
        """Return the size of the grid for one block of rows; of gated ones `outputs` are the result's."""
        return -(-outputs // (self.group_outputs * self.groups // (1 + self.gated))) * self.cluster

    def label(self) -> str:
        """Return groups, turns and cluster, a digit each, the stages, and fewer outputs than a group has."""
        outputs = "" if self.group_outputs == OUTPUTS_A_GROUP else f"x{self.group_outputs}"
        gated = "g" if self.gated else ""
        return f"{self.groups}{self.k_groups}{self.cluster}/{self.stages}{outputs}{gated}"


def most_rows(kind: Kind) -> int:
    """Return how many rows of x the kernel takes at most."""
    return max(_MOST_ROWS[kind])


def slab_inputs(kind: Kind, lines: int) -> int:
    """Return how many inputs a stage holds."""
    return LINE_INPUTS[kind] * lines


@lru_cache(maxsize=1024)
def hopper_cut(
    kind: Kind,
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    num_sms: int,
    bytes_per_block: int,
    gated: bool = False,
) -> HopperCut:
    """Return the preferred cut of a product that fits.

    Raises KernelError where no cut fits.
    """
    rows = next(rows for rows in ROWS if rows >= num_rows)
    for wanted in preferences(kind, rows=rows, outputs=outputs, num_sms=num_sms):
        cut = _with_ring(
            kind,
            wanted,
            rows=rows,
            inputs=inputs,
            bytes_per_block=bytes_per_block,
            gated=gated,
        )
        if cut is not None:
            return cut
    raise KernelError(
        f"`linear_hopper` of {num_rows} rows, {inputs} inputs: "
        f"{bytes_per_block} bytes of shared memory a block are too few"
    )


def _with_ring(
    kind: Kind,
    wanted: Preference,
    *,
    rows: int,
    inputs: int,
    bytes_per_block: int,
    gated: bool,
) -> HopperCut | None:
    def cut(shared_bytes: int) -> HopperCut | None:
        return make_cut(
            kind,
            rows=rows,
            groups=wanted.groups,
            group_outputs=wanted.group_outputs,
            k_groups=wanted.k_groups,
            cluster=wanted.cluster,
            inputs=inputs,
            shared_bytes=shared_bytes,
            gated=gated,
        )

    if wanted.ring == "full":
        return cut(bytes_per_block)
    half = cut(bytes_per_block // 2 - _RESERVED_BYTES)
    if wanted.ring == "half":
        return half
    slabs = inputs // slab_inputs(kind, 1) // wanted.cluster
    often = half is None or slabs >= _OFTEN * half.stages
    return cut(bytes_per_block) if often else None


def make_cut(
    kind: Kind,
    *,
    rows: int,
    groups: int,
    cluster: int,
    inputs: int,
    shared_bytes: int,
    k_groups: int = 1,
    lines: int = 1,
    sum_slabs: int | None = None,
    group_outputs: int = OUTPUTS_A_GROUP,
    gated: bool = False,
) -> HopperCut | None:
    """Return a cut with the deepest ring that fits, or None where the kernel cannot be cut so.

    A given `sum_slabs` replaces the preferred number (benchmarks).
    """
    if groups * k_groups > 4 or rows > _MOST_ROWS[kind][groups * k_groups - 1]:
        return None
    apart = kind == "e4m3" and rows <= _MOST_ROWS_APART[groups * k_groups - 1]
    if sum_slabs is None or not apart:
        sum_slabs = _SUM_SLABS if apart else 0
    slab, outputs = slab_inputs(kind, lines), group_outputs * groups
    slabs = -(-inputs // slab)
    beyond = max(1, (OUTPUTS_A_GROUP - group_outputs - rows * lines) * 128)  # read past the last output
    fixed = _ALIGNMENT + beyond
    stage = rows * lines * 128 + outputs * _WEIGHT_BITS[kind] * slab // 8
    stages = min(_MOST_STAGES, max(_LEAST_STAGES, -(-slabs // cluster)) + k_groups - 1)
    stages = min(stages, (shared_bytes - fixed) // (stage + _BARRIER_BYTES)) // k_groups * k_groups
    sums = k_groups * rows * (outputs + 4) * 4
    too_few = stages < _LEAST_STAGES or sums > stages * stage
    uneven = (gated and groups % 2) or outputs // (1 + gated) // cluster % 4
    if uneven or too_few or slabs // cluster < k_groups:
        return None
    return HopperCut(
        rows=rows,
        groups=groups,
        group_outputs=group_outputs,
        k_groups=k_groups,
        cluster=cluster,
        gated=gated,
        lines=lines,
        stages=stages,
        sum_slabs=sum_slabs,
        shared_bytes=fixed + stages * (stage + _BARRIER_BYTES),
    )
