"""How `kernels/linear_rows.cu` cuts a product into tiles: pure arithmetic on sizes."""

import math
from dataclasses import dataclass
from functools import lru_cache

from engines.turbomind.tensor_map import LINE_BYTES

ROWS = 128  # of a tile
THREADS = 384
BOX_ROWS = 16  # of the result and the residual, that a warp takes at once
# Columns of a tile, blocks of a cluster; the earlier of equals.
CUTS = ((256, 2), (256, 1), (192, 2), (192, 1), (128, 2), (128, 1))
_ALIGNMENT = 1024
_STAGE_BARRIER_BYTES = 24  # full, empty here and empty in the other block
_BOX_COLUMNS = 64
_MOST_BOXES = 3  # of a warp; where a row has more parts, two take turns
_BARRIER_BYTES = 8 * _MOST_BOXES * 8  # of the residual
# What a tile takes beside its columns, in columns, at 1,024 and 4,096 inputs alike: the bytes of its rows
# that leave shared memory with each instruction, and those that come in. kernels/LOG.md.
TILE_COLUMNS = 40
_PAIRS_GAIN = 0.97  # 163 us against 170 of 13,325 rows with 0.9 % of the tiles outside
_MOST_STAGES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsCut:
    """How a block is cut; the names are those of the kernel's constants."""

    columns: int
    cluster: int
    stages: int

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory a block needs: the kernel's `Layout` and what aligns it."""
        return self.stages * _stage_bytes(self.columns) + _out_bytes(self.columns) + _ALIGNMENT

    def fill(self, num_rows: int, outputs: int, *, num_sms: int) -> float:
        """Return which part of the GPU's time goes into sums that are wanted, as far as tiles tell."""
        turns = math.ceil(self.num_tiles(num_rows, outputs) / (num_sms // self.cluster))
        return num_rows * outputs / (turns * num_sms * ROWS * (self.columns + TILE_COLUMNS))

    def num_tiles(self, num_rows: int, outputs: int) -> int:
        """Return the tiles of a product, those of a cluster as one."""
        return math.ceil(num_rows / (ROWS * self.cluster)) * math.ceil(outputs / self.columns)

    def num_blocks(self, num_rows: int, outputs: int, *, num_sms: int) -> int:
        """Return how many blocks stay."""
        return self.cluster * min(num_sms // self.cluster, self.num_tiles(num_rows, outputs))


def make_cut(columns: int, cluster: int, *, bytes_per_block: int) -> RowsCut:
    """Return a cut with as many stages as fit into a block's shared memory."""
    room = bytes_per_block - _ALIGNMENT - _out_bytes(columns)
    stages = min(_MOST_STAGES, room // _stage_bytes(columns))
    return RowsCut(columns=columns, cluster=cluster, stages=stages)


@lru_cache(maxsize=1024)
def rows_cut(num_rows: int, outputs: int, *, num_sms: int, bytes_per_block: int) -> RowsCut:
    """Return the cut whose busiest multiprocessor is done first.

    Of equals the one with the fewest tiles that lie outside: pairs of an odd number are half empty. Where few
    of them are, pairs read fewer bytes.
    """

    def cost(cut: RowsCut) -> tuple[int, float]:
        tiles = cut.num_tiles(num_rows, outputs)
        turns = math.ceil(tiles / (num_sms // cut.cluster))
        computed = tiles * cut.cluster * cut.columns * (_PAIRS_GAIN if cut.cluster == 2 else 1)
        return turns * (cut.columns + TILE_COLUMNS), computed

    return min((make_cut(*cut, bytes_per_block=bytes_per_block) for cut in CUTS), key=cost)


def _stage_bytes(columns: int) -> int:
    return (ROWS + columns) * LINE_BYTES + _STAGE_BARRIER_BYTES


def _out_bytes(columns: int) -> int:
    parts = columns // _BOX_COLUMNS
    boxes = 2 if parts > _MOST_BOXES else parts
    return 8 * boxes * BOX_ROWS * LINE_BYTES + _BARRIER_BYTES
