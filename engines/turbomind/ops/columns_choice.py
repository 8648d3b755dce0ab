"""When `kernels/linear_columns.cu` takes a product and what follows it, and in which cut.

Microseconds on an H200, fitted to products of 577 to 4,100 rows of towers, and what the library's products
cost between kernels that start early to whole passes of one tile: kernels/LOG.md, 2026-11-27.
"""

import math
from functools import lru_cache

from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.columns_cut import OUTPUTS_A_GROUP, SLAB, TILES, ColumnsCut, make_cut
from engines.turbomind.ops.rows_cut import ROWS as ROWS_OF_A_TILE
from engines.turbomind.ops.rows_cut import TILE_COLUMNS, rows_cut
from engines.turbomind.tensor_map import LINE_BYTES

_LEAST_ROWS = 512  # below, the library and an op apart
_SPLIT_INPUTS = 2048  # from which on two blocks may have half each
_CERTAIN = 0.96  # of what others take: costs are no closer
_PRODUCTS_A_US = 2048 * 1600  # multiplied and added on an SM: 2,048 a cycle
_TILE_ROWS = 6  # what a tile takes beside its rows, in rows
_ENDS_US = 3.3  # of a block: until the first slab is there, and after the last
_WRITING_US = 1.5 / (176 * 192)  # a number of a tile
_GELU_US = 2.0 / (176 * 192)
_ADD_US = 0.4 / (144 * 128)
_SENDING_US = 0.8 / (144 * 64)  # a number that a block sends to another
_FED_BYTES_A_US = 115_000  # of a ring that is refilled: narrow tiles of many inputs wait for the L2
_ROWS_PRODUCTS_A_US, _ROWS_ENDS_US = 2048 * 1700, 3.8
_LIBRARY_PRODUCTS_A_US, _LIBRARY_ENDS_US = 388_000_000, 4.9  # on all SMs
_LIBRARY_BETWEEN_US = 1.5  # it waits until the kernel ahead is complete, and so does the kernel behind
_OP_ENDS_US, _OP_NUMBERS_A_US = 2.2, 5_000_000


@lru_cache(maxsize=1024)
def columns_choice(
    num_rows: int, outputs: int, inputs: int, after: After, *, num_sms: int, bytes_per_block: int
) -> ColumnsCut | None:
    """Return the cut that takes the least time, or None where `linear_rows` or the library take less."""
    if num_rows < _LEAST_ROWS or num_rows > most_rows(outputs, num_sms=num_sms):
        return None

    def cost(cut: ColumnsCut) -> float:
        return columns_us(cut, inputs, after)

    cuts = cuts_at_once(num_rows, outputs, inputs, num_sms=num_sms, bytes_per_block=bytes_per_block)
    if not cuts:
        return None  # of tiles by turns the ends are not beside the products of the next, as in `linear_rows`
    best = min(cuts, key=cost)
    others = min(
        _rows_us(num_rows, outputs, inputs, after, num_sms=num_sms, bytes_per_block=bytes_per_block),
        _library_us(num_rows, outputs, inputs, after),
    )
    return best if cost(best) < _CERTAIN * others else None


def cuts_at_once(
    num_rows: int, outputs: int, inputs: int, *, num_sms: int, bytes_per_block: int
) -> list[ColumnsCut]:
    """Return the cuts whose tiles are all done at once."""
    tiles = [(*tile, 1) for tile in TILES]
    if inputs >= _SPLIT_INPUTS:
        tiles += [(rows, groups, 2) for rows, groups in TILES if groups == 2]
    cuts = [make_cut(*tile, bytes_per_block=bytes_per_block) for tile in tiles]
    return [cut for cut in cuts if cut.num_blocks(num_rows, outputs) <= num_sms // cut.cluster * cut.cluster]


def most_rows(outputs: int, *, num_sms: int) -> int:
    """Return the most rows whose tiles are all done at once, in any cut."""
    return max(rows * (num_sms // math.ceil(outputs / (OUTPUTS_A_GROUP * groups))) for rows, groups in TILES)


def columns_us(cut: ColumnsCut, inputs: int, after: After) -> float:
    """Return how long one tile takes; all are done at once."""
    numbers = cut.rows * cut.outputs
    slabs = inputs / cut.cluster / SLAB
    slab_us = (cut.rows + _TILE_ROWS) * cut.outputs * SLAB / _PRODUCTS_A_US
    fed_us = (cut.rows + cut.outputs) * LINE_BYTES / _FED_BYTES_A_US
    us = slabs * slab_us + max(0.0, slabs - cut.stages) * max(0.0, fed_us - slab_us)
    if cut.cluster == 2:
        us += numbers / 2 * _SENDING_US
    return us + _ENDS_US + numbers * (_WRITING_US + _after_us(after))


def _after_us(after: After) -> float:
    """Return what follows of a number of a tile."""
    if after == "nothing":
        return 0.0
    return _ADD_US if after == "add" else _GELU_US


def _rows_us(
    num_rows: int, outputs: int, inputs: int, after: After, *, num_sms: int, bytes_per_block: int
) -> float:
    """Return what `linear_rows` takes; what follows a tile is done beside the next one, but for the last."""
    cut = rows_cut(num_rows, outputs, num_sms=num_sms, bytes_per_block=bytes_per_block)
    turns = math.ceil(cut.num_tiles(num_rows, outputs) / (num_sms // cut.cluster))
    numbers = turns * ROWS_OF_A_TILE * (cut.columns + TILE_COLUMNS)
    last = ROWS_OF_A_TILE * cut.columns * _after_us(after)
    return numbers * inputs / _ROWS_PRODUCTS_A_US + _ROWS_ENDS_US + last


def _library_us(num_rows: int, outputs: int, inputs: int, after: After) -> float:
    """Return what cuBLASLt and an op apart take."""
    numbers = num_rows * outputs
    us = numbers * inputs / _LIBRARY_PRODUCTS_A_US + _LIBRARY_ENDS_US
    if after == "nothing":
        return us + _LIBRARY_BETWEEN_US
    return us + _OP_ENDS_US + numbers / _OP_NUMBERS_A_US
