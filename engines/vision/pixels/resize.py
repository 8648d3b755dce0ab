"""Resizing in 8 bits, the same with every release of Pillow. Torch-free."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.vision.pixels.side_by_side import LARGE_PIXELS, bands, side_by_side


def bicubic(rgb: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture resized with Pillow's bicubic filter."""
    return _resized(rgb, width, height, Image.Resampling.BICUBIC)


def bilinear(rgb: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture resized with Pillow's bilinear filter, which averages where it shrinks."""
    return _resized(rgb, width, height, Image.Resampling.BILINEAR)


def _resized(rgb: Image.Image, width: int, height: int, how: Image.Resampling) -> NDArray[np.uint8]:
    """Resize axis after axis, in the order of Pillow 13 whichever is installed."""
    between = (rgb.width, height) if height_first(rgb.size, (width, height)) else (width, rgb.height)
    return np.asarray(_along_one_axis(_along_one_axis(rgb, between, how), (width, height), how))


def height_first(size: tuple[int, int], new_size: tuple[int, int]) -> bool:
    """Tell which axis of a picture of this width and height is resized first.

    Each pass rounds to 8 bits, so the order shows in the pixels. Before 13, Pillow begins with the width; 13
    begins with the height where that loses more than twice the pixels (python-pillow/Pillow#9549).
    """
    lost = size[1] - new_size[1]
    return lost > 0 and lost > 2 * (size[0] - new_size[0])


def _along_one_axis(rgb: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """Return the picture resized in one direction; bands of the other, side by side, give the same pixels."""
    if size == rgb.size:
        return rgb
    largest = max(rgb.width * rgb.height, size[0] * size[1])
    if largest < LARGE_PIXELS:
        return rgb.resize(size, how)
    if size[1] == rgb.height:
        boxes = [(0, top, rgb.width, bottom) for top, bottom in bands(rgb.height)]
        sizes = [(size[0], bottom - top) for _, top, _, bottom in boxes]
    else:
        boxes = [(left, 0, right, rgb.height) for left, right in bands(rgb.width)]
        sizes = [(right - left, size[1]) for left, _, right, _ in boxes]
    calls = [partial(rgb.resize, own, how, box) for own, box in zip(sizes, boxes, strict=True)]
    whole = Image.new("RGB", size)
    for box, part in zip(boxes, side_by_side(calls, pixels=largest), strict=True):
        whole.paste(part, box[:2])
    return whole


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
