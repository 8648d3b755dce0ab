"""Dynamic tiles: a picture becomes a grid of square tiles of its own aspect ratio, and a thumbnail.

Source: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess). Scaling to numbers
and normalising happen on the device (`engines/vision/passes.py`). Torch-free.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.resize import bicubic, cut
from engines.vision.pixels.side_by_side import side_by_side
from engines.vision.pixels.tile_grid import choose_grid, has_thumbnail


def dynamic_tiles(rgb: Image.Image, spec: DynamicTilesSpec) -> npt.NDArray[np.uint8]:
    """Return the tiles of an RGB picture, uint8 [tiles, side, side, 3], row by row, the thumbnail last."""
    side = spec.image
    columns, rows = choose_grid(rgb.width, rgb.height, spec)
    parts = [lambda: cut(bicubic(rgb, columns * side, rows * side), side)]
    if has_thumbnail(columns * rows, spec):
        parts.append(lambda: bicubic(rgb, side, side)[None])
    return np.concatenate(side_by_side(parts, pixels=rgb.width * rgb.height))
