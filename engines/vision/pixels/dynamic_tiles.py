"""Dynamic tiles: a picture becomes a grid of square tiles of its own aspect ratio, and a thumbnail.

Source: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess). Scaling to numbers
and normalising happen on the device (`engines/vision/vlm.py`). Torch-free.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.spec import PixelSpec


def dynamic_tiles(rgb: Image.Image, spec: PixelSpec) -> npt.NDArray[np.uint8]:
    """Return the tiles of an RGB picture, uint8 [tiles, side, side, 3], row by row, the thumbnail last."""
    side = spec.image
    columns, rows = choose_grid(rgb.width, rgb.height, spec)
    resized = _resized(rgb, columns * side, rows * side)
    tiles = resized.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    if _has_thumbnail(columns * rows, spec):
        tiles = np.concatenate([tiles, _resized(rgb, side, side)[None]])
    return np.ascontiguousarray(tiles)


def num_tiles(width: int, height: int, spec: PixelSpec) -> int:
    """Return how many tiles a picture of this size gives, thumbnail included."""
    columns, rows = choose_grid(width, height, spec)
    return columns * rows + _has_thumbnail(columns * rows, spec)


def choose_grid(width: int, height: int, spec: PixelSpec) -> tuple[int, int]:
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


def _has_thumbnail(num_grid_tiles: int, spec: PixelSpec) -> bool:
    return spec.thumbnail and num_grid_tiles > 1


def _resized(rgb: Image.Image, width: int, height: int) -> npt.NDArray[np.uint8]:
    return np.asarray(rgb.resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)
