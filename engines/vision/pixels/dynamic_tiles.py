"""Dynamic tiles: a picture becomes a grid of square tiles of its own aspect ratio, and a thumbnail.

Source: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess). Scaling to numbers
and normalising happen on the device (`engines/vision/passes.py`). Torch-free.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.tile_grid import choose_grid, has_thumbnail


def dynamic_tiles(rgb: Image.Image, spec: DynamicTilesSpec) -> npt.NDArray[np.uint8]:
    """Return the tiles of an RGB picture, uint8 [tiles, side, side, 3], row by row, the thumbnail last."""
    side = spec.image
    columns, rows = choose_grid(rgb.width, rgb.height, spec)
    resized = _resized(rgb, columns * side, rows * side)
    tiles = resized.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    if has_thumbnail(columns * rows, spec):
        tiles = np.concatenate([tiles, _resized(rgb, side, side)[None]])
    return np.ascontiguousarray(tiles)


def _resized(rgb: Image.Image, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return the picture resized axis after axis, in the order of Pillow 13 whichever is installed.

    Each pass rounds to 8 bits, so the order shows in the pixels. Older releases begin with the width; 13
    begins with the height where that loses more than twice the pixels (python-pillow/Pillow#9549).
    """
    lost = rgb.height - height
    height_first = lost > 0 and lost > 2 * (rgb.width - width)
    between = (rgb.width, height) if height_first else (width, rgb.height)
    bicubic = Image.Resampling.BICUBIC
    return np.asarray(rgb.resize(between, bicubic).resize((width, height), bicubic), dtype=np.uint8)
