"""Fixed square: how a picture of any shape becomes a square one.

Sources: haotian-liu/LLaVA, llava/mm_utils.py (pad); huggingface/transformers, CLIPImageProcessor (crop);
deepseek-ai/DeepSeek-VL, image_processing_vlm.py (fit). Torch-free.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.pixels.resize import bicubic, centred

SHORTEST_FIT = 14  # pixels that a side of a fitted picture keeps
BAND_PIXELS = 1 << 22  # of a padded picture, resized at once


def fixed_square(rgb: Image.Image, spec: FixedSquareSpec) -> NDArray[np.uint8]:
    """Return uint8 [side, side, 3]."""
    if spec.mode == "pad":
        return padded(rgb, spec.image, spec.background)
    if spec.mode == "fit":
        return fitted(rgb, spec.image, spec.background)
    if spec.mode == "crop":
        return middle(rgb, spec.image)
    return bicubic(rgb, spec.image, spec.image)


def padded(rgb: Image.Image, side: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the square around a picture, resized.

    The square is never there as a whole: its rows are made and narrowed a band at a time, which gives the
    same numbers, since a square's width is resized first.
    """
    whole = max(rgb.size)
    narrow = np.full((whole, side, 3), background, dtype=np.uint8)
    first, band_rows = (whole - rgb.height) // 2, max(1, BAND_PIXELS // whole)
    for top in range(0, rgb.height, band_rows):
        rows = min(band_rows, rgb.height - top)
        band = centred(np.asarray(rgb.crop((0, top, rgb.width, top + rows))), whole, rows, background)
        narrowed = Image.fromarray(band).resize((side, rows), Image.Resampling.BICUBIC)
        narrow[first + top : first + top + rows] = np.asarray(narrowed)
    return np.asarray(Image.fromarray(narrow).resize((side, side), Image.Resampling.BICUBIC))


def fitted(rgb: Image.Image, side: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the picture with its longer side resized, in the middle of a square."""
    longest = max(rgb.size)
    width, height = (max(int(pixels / longest * side), SHORTEST_FIT) for pixels in rgb.size)
    return centred(bicubic(rgb, width, height), side, side, background)


def middle(rgb: Image.Image, side: int) -> NDArray[np.uint8]:
    """Return the middle square of the picture with its shorter side resized."""
    shortest = min(rgb.size)
    width, height = (side if pixels == shortest else int(side * pixels / shortest) for pixels in rgb.size)
    left, top = (width - side) // 2, (height - side) // 2
    return np.ascontiguousarray(bicubic(rgb, width, height)[top : top + side, left : left + side])
