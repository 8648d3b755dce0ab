"""How `kernels/linear_columns.cu` cuts a product into tiles: pure arithmetic on sizes."""

import math
from dataclasses import dataclass

from engines.turbomind.tensor_map import LINE_BYTES

OUTPUTS_A_GROUP = 64
SLAB = 64  # inputs of a stage
# Rows of a tile and groups of outputs that registers hold.
TILES = (
    *((rows, 2) for rows in (80, 96, 112, 128, 144, 160, 176, 192, 208)),
    *((rows, 3) for rows in (96, 112, 128, 144, 160, 176, 192)),
)
_ALIGNMENT = 1024
_BARRIER_BYTES = 16  # full and empty, a stage
_SUMS_BARRIER_BYTES = 8
_SENT_BYTES = 16  # of a thread at once
_MOST_STAGES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnsCut:
    """How a block is cut; the names are those of the kernel's constants."""

    rows: int
    groups: int
    cluster: int
    stages: int

    @property
    def outputs(self) -> int:
        """Return how many outputs a block has."""
        return OUTPUTS_A_GROUP * self.groups

    @property
    def threads(self) -> int:
        """Return the threads of a block: a warpgroup that copies and those that multiply."""
        return 128 + 128 * self.groups

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory a block needs: the kernel's `Layout` and what aligns it."""
        return self.stages * _stage_bytes(self.rows, self.groups) + _fixed_bytes(self.rows, self.cluster)

    def num_blocks(self, num_rows: int, outputs: int) -> int:
        """Return the blocks of a product."""
        return self.cluster * math.ceil(outputs / self.outputs) * math.ceil(num_rows / self.rows)


def make_cut(rows: int, groups: int, cluster: int, *, bytes_per_block: int) -> ColumnsCut:
    """Return a cut with as many stages as fit into a block's shared memory."""
    room = bytes_per_block - _fixed_bytes(rows, cluster)
    stages = min(_MOST_STAGES, room // _stage_bytes(rows, groups))
    return ColumnsCut(rows=rows, groups=groups, cluster=cluster, stages=stages)


def _stage_bytes(rows: int, groups: int) -> int:
    return (rows + OUTPUTS_A_GROUP * groups) * LINE_BYTES + _BARRIER_BYTES


def _fixed_bytes(rows: int, cluster: int) -> int:
    sent = 128 * _SENT_BYTES * (rows // 8 if cluster == 2 else 1)
    return _ALIGNMENT + sent + _SUMS_BARRIER_BYTES
