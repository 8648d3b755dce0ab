"""How `kernels/linear_tiles.cu` cuts a product into tiles: pure arithmetic on sizes."""

import math
from dataclasses import dataclass
from functools import lru_cache

from engines.turbomind.tensor_map import LINE_BYTES

ROWS = 128  # of a tile
THREADS = 384
BOX_ROWS = 16  # of the result, that a warp writes at once
CUTS = (
    (256, 2),
    (256, 1),
    (128, 2),
    (128, 1),
)  # columns of a tile, blocks of a cluster; the earlier of equals
_ALIGNMENT = 1024
_BARRIER_BYTES = 24  # full, empty here and empty in the other block, a stage
_OUT_BYTES = 8 * 2 * BOX_ROWS * LINE_BYTES  # two boxes a warp
# What a tile takes beside its columns, in columns: as in `rows_cut`.
_TILE_COLUMNS = 40
_MOST_STAGES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class TilesCut:
    """How a block is cut; the names are those of the kernel's constants."""

    columns: int
    cluster: int
    stages: int

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory a block needs: the kernel's `Layout` and what aligns it."""
        return self.stages * _stage_bytes(self.columns) + _OUT_BYTES + _ALIGNMENT

    def num_tiles(self, num_rows: int, outputs: int) -> int:
        """Return the tiles of a product over that many rows of weights, those of a cluster as one."""
        return math.ceil(num_rows / (ROWS * self.cluster)) * math.ceil(outputs / self.columns)

    def num_blocks(self, num_rows: int, outputs: int, *, num_sms: int) -> int:
        """Return how many blocks stay."""
        return self.cluster * min(num_sms // self.cluster, self.num_tiles(num_rows, outputs))


def make_cut(columns: int, cluster: int, *, bytes_per_block: int) -> TilesCut:
    """Return a cut with as many stages as fit into a block's shared memory."""
    room = bytes_per_block - _ALIGNMENT - _OUT_BYTES
    stages = min(_MOST_STAGES, room // _stage_bytes(columns))
    return TilesCut(columns=columns, cluster=cluster, stages=stages)


@lru_cache(maxsize=1024)
def tiles_cut(num_rows: int, outputs: int, *, num_sms: int, bytes_per_block: int) -> TilesCut:
    """Return the cut whose busiest multiprocessor is done first; `outputs` are the weight's rows.

    Of equals the one with the fewest tiles that lie outside: pairs of an odd number are half empty.
    """

    def cost(cut: TilesCut) -> tuple[int, int]:
        tiles = cut.num_tiles(num_rows, outputs)
        turns = math.ceil(tiles / (num_sms // cut.cluster))
        return turns * (cut.columns + _TILE_COLUMNS), tiles * cut.cluster * cut.columns

    return min((make_cut(*cut, bytes_per_block=bytes_per_block) for cut in CUTS), key=cost)


def _stage_bytes(columns: int) -> int:
    return (ROWS + columns) * LINE_BYTES + _BARRIER_BYTES
