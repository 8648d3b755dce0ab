"""How `kernels/linear_rows.cu` cuts a product into tiles: pure arithmetic on sizes."""

import math
from dataclasses import dataclass
from functools import lru_cache

ROWS = 128  # of a tile
THREADS = 384
_SLAB_BYTES = 128  # of a row in a stage
_ALIGNMENT = 1024
_BARRIER_BYTES = 16  # full and empty, a stage
_PAD_BYTES = 16  # of a row of the product
COLUMNS = (80, 128, 144, 256)
# What a tile takes beside its columns, in columns, at 1,024 and 4,096 inputs alike: the bytes of its rows
# that leave shared memory with each instruction, and those that come in. kernels/LOG.md.
_TILE_COLUMNS = 40
_MOST_STAGES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsCut:
    """How a block is cut; the names are those of the kernel's constants."""

    columns: int
    stages: int

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory a block needs: the kernel's `Layout` and what aligns it."""
        return self.stages * _stage_bytes(self.columns) + _product_bytes(self.columns) + _ALIGNMENT

    def fill(self, num_rows: int, outputs: int, *, num_sms: int) -> float:
        """Return which part of the GPU's time goes into sums that are wanted, as far as tiles tell."""
        turns = math.ceil(self.num_tiles(num_rows, outputs) / num_sms)
        return num_rows * outputs / (turns * num_sms * ROWS * (self.columns + _TILE_COLUMNS))

    def num_tiles(self, num_rows: int, outputs: int) -> int:
        """Return the tiles of a product."""
        return math.ceil(num_rows / ROWS) * math.ceil(outputs / self.columns)


def make_cut(columns: int, *, bytes_per_block: int) -> RowsCut:
    """Return a cut with as many stages as fit into a block's shared memory."""
    room = bytes_per_block - _ALIGNMENT - _product_bytes(columns)
    return RowsCut(columns=columns, stages=min(_MOST_STAGES, room // _stage_bytes(columns)))


@lru_cache(maxsize=1024)
def rows_cut(num_rows: int, outputs: int, *, num_sms: int, bytes_per_block: int) -> RowsCut:
    """Return the cut whose busiest multiprocessor is done first."""

    def busiest(columns: int) -> int:
        tiles = math.ceil(num_rows / ROWS) * math.ceil(outputs / columns)
        return math.ceil(tiles / num_sms) * (columns + _TILE_COLUMNS)

    return make_cut(min(COLUMNS, key=busiest), bytes_per_block=bytes_per_block)


def _stage_bytes(columns: int) -> int:
    return (ROWS + columns) * _SLAB_BYTES + _BARRIER_BYTES


def _product_bytes(columns: int) -> int:
    rows = ROWS * (2 * columns + _PAD_BYTES)
    return rows + 2 * 2 * 2 * columns  # bias and scale of each half
