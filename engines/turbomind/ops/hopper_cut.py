"""How `kernels/linear_hopper.cu` cuts a product: pure arithmetic on sizes.

Legend: an operand is of one of four kinds; a slab is what a stage holds of the inputs.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from engines.errors import KernelError

Kind = Literal["dense", "e4m3", "int8", "nibble"]

ROWS = (8, 16, 32, 64, 128, 256)  # of x, as the kernel is compiled for
SLAB: dict[Kind, int] = {"dense": 64, "e4m3": 128, "int8": 128, "nibble": 128}  # inputs
OUTPUTS_A_GROUP = 64  # of a warpgroup
_BITS: dict[Kind, int] = {"dense": 16, "e4m3": 8, "int8": 8, "nibble": 4}
_X_BITS: dict[Kind, int] = {"dense": 16, "e4m3": 8, "int8": 8, "nibble": 16}
_CLUSTERS = (1, 2, 4, 8)
_MOST_STAGES = 16
_LEAST_STAGES = 3
_ALIGNMENT = 1024  # of the ring; the launcher's memory may start below
_BARRIER_BYTES = 16  # full and empty, a stage
_SCALE_BYTES = 3  # a scale and a zero point
# The most rows whose accumulators fit into the registers of 1, 2, 3 and 4 groups; sums of parts take twice as
# many, codes some more. tests/kernels holds the compiler to it.
_MOST_ROWS: dict[Kind, tuple[int, ...]] = {
    "dense": (256, 256, 128, 128),
    "e4m3": (128, 128, 64, 64),
    "int8": (256, 256, 128, 128),
    "nibble": (128, 64, 64, 32),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HopperCut:
    """Blocks of `groups` x 64 outputs; `cluster` blocks share the inputs of an output."""

    rows: int
    groups: int
    cluster: int
    stages: int
    share_groups: int  # of 4-bit codes: groups of inputs that a block meets at most
    shared_bytes: int

    @property
    def threads(self) -> int:
        """Threads of a block: the warpgroups that multiply and the warp that copies."""
        return 128 * self.groups + 32

    def num_blocks(self, outputs: int) -> int:
        """Return the size of the grid."""
        return -(-outputs // (OUTPUTS_A_GROUP * self.groups)) * self.cluster


@lru_cache(maxsize=1024)
def hopper_cut(
    kind: Kind,
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    group_size: int,
    num_sms: int,
    bytes_per_block: int,
) -> HopperCut:
    """Return the cut that moves the fewest bytes through the busiest multiprocessor.

    Raises KernelError where none fits into shared memory.
    """
    rows = next(rows for rows in ROWS if rows >= num_rows)
    best: tuple[float, HopperCut] | None = None
    for groups in range(1, len(_MOST_ROWS[kind]) + 1):
        for cluster in _CLUSTERS:
            cut = make_cut(
                kind,
                rows=rows,
                groups=groups,
                cluster=cluster,
                inputs=inputs,
                group_size=group_size,
                shared_bytes=bytes_per_block,
            )
            if cut is not None:
                moved = cost(kind, cut, outputs=outputs, inputs=inputs, num_sms=num_sms)
                if best is None or moved < best[0]:
                    best = moved, cut
    if best is None:
        raise KernelError(
            f"`linear_hopper` of {num_rows} rows, {inputs} inputs in groups of {group_size}: "
            f"{bytes_per_block} bytes of shared memory a block are too few"
        )
    return best[1]


def make_cut(
    kind: Kind, *, rows: int, groups: int, cluster: int, inputs: int, group_size: int, shared_bytes: int
) -> HopperCut | None:
    """Return a cut with the deepest ring that fits, or None where the kernel cannot be cut so."""
    if rows > _MOST_ROWS[kind][groups - 1]:
        return None
    slabs, outputs = -(-inputs // SLAB[kind]), OUTPUTS_A_GROUP * groups
    share_groups = 0 if kind != "nibble" else -(-slabs // cluster) * SLAB[kind] // group_size + 2
    fixed = _ALIGNMENT + max(1, share_groups) * outputs * _SCALE_BYTES
    stage = (rows * _X_BITS[kind] + outputs * _BITS[kind]) * SLAB[kind] // 8
    stages = min(_MOST_STAGES, max(_LEAST_STAGES, -(-slabs // cluster)))
    stages = min(stages, (shared_bytes - fixed) // (stage + _BARRIER_BYTES))
    sums = rows * (outputs + 4) * 4
    if stages < _LEAST_STAGES or sums > stages * stage or outputs // cluster % 4 or slabs < cluster:
        return None
    return HopperCut(
        rows=rows,
        groups=groups,
        cluster=cluster,
        stages=stages,
        share_groups=share_groups,
        shared_bytes=fixed + stages * (stage + _BARRIER_BYTES),
    )


def cost(kind: Kind, cut: HopperCut, *, outputs: int, inputs: int, num_sms: int) -> float:
    """Return what the busiest multiprocessor moves; bytes of x, which are in the L2, count half."""
    waves = -(-cut.num_blocks(outputs) // num_sms)
    share = -(-inputs // SLAB[kind] // cut.cluster) * SLAB[kind]
    weights = OUTPUTS_A_GROUP * cut.groups * share * _BITS[kind] / 8
    x = cut.rows * share * _X_BITS[kind] / 8
    exchanged = cut.rows * OUTPUTS_A_GROUP * cut.groups * 4 if cut.cluster > 1 else 0
    return waves * (weights + x / 2 + exchanged)
