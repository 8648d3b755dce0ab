"""Which grid of tiles a picture becomes: arithmetic on its width and height. Imports nothing heavy.

Source: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess). Called by
`dynamic_tiles.py`, which cuts the tiles, and by whoever wants to know what a picture costs.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec


def num_tiles(width: int, height: int, spec: "DynamicTilesSpec") -> int:
    """Return how many tiles a picture of this size gives, thumbnail included."""
    columns, rows = choose_grid(width, height, spec)
    return columns * rows + has_thumbnail(columns * rows, spec)


def choose_grid(width: int, height: int, spec: "DynamicTilesSpec") -> tuple[int, int]:
    """Return (columns, rows) of the grid whose aspect ratio is nearest to the picture's.

    Of two that are equally near, the one with more tiles wins where the picture fills more than half of its
    pixels.
    """
    aspect = width / height
    best, best_difference = (1, 1), float("inf")
    for columns, rows in _grids(spec.min_tiles, spec.max_tiles):
        difference = abs(aspect - columns / rows)
        fills_half = width * height > 0.5 * spec.image**2 * columns * rows
        if difference < best_difference or (difference == best_difference and fills_half):
            best, best_difference = (columns, rows), difference
    return best


def has_thumbnail(num_grid_tiles: int, spec: "DynamicTilesSpec") -> bool:
    """Tell whether the whole picture is one more tile."""
    return spec.thumbnail and num_grid_tiles > 1


@lru_cache(maxsize=64)
def _grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return all grids of an allowed size, fewest tiles first."""
    grids = [
        (columns, tiles // columns)
        for tiles in range(min_tiles, max_tiles + 1)
        for columns in range(1, tiles + 1)
        if tiles % columns == 0
    ]
    return tuple(grids)
