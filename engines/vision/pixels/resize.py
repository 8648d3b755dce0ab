"""Resizing in 8 bits, the same with every release of Pillow. Torch-free."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def bicubic(rgb: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture resized with Pillow's bicubic filter."""
    return _resized(rgb, width, height, Image.Resampling.BICUBIC)


def bilinear(rgb: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture resized with Pillow's bilinear filter, which averages where it shrinks."""
    return _resized(rgb, width, height, Image.Resampling.BILINEAR)


def _resized(rgb: Image.Image, width: int, height: int, how: Image.Resampling) -> NDArray[np.uint8]:
    """Resize axis after axis, in the order of Pillow 13 whichever is installed.

    Each pass rounds to 8 bits, so the order shows in the pixels. Older releases begin with the width; 13
    begins with the height where that loses more than twice the pixels (python-pillow/Pillow#9549).
    """
    lost = rgb.height - height
    height_first = lost > 0 and lost > 2 * (rgb.width - width)
    between = (rgb.width, height) if height_first else (width, rgb.height)
    return np.asarray(rgb.resize(between, how).resize((width, height), how), dtype=np.uint8)


def centred(
    rgb: NDArray[np.uint8], width: int, height: int, background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return a canvas of this size, uint8 [height, width, 3], with the picture in its middle."""
    canvas = np.full((height, width, 3), background, dtype=np.uint8)
    top, left = (height - rgb.shape[0]) // 2, (width - rgb.shape[1]) // 2
    canvas[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
    return canvas


def cut(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the square tiles of a picture, uint8 [tiles, side, side, 3], row by row."""
    rows, columns = rgb.shape[0] // side, rgb.shape[1] // side
    tiles = rgb.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return np.ascontiguousarray(tiles)
