"""Resizing in 8 bits, the same with every release of Pillow. Torch-free."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def bicubic(rgb: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture resized axis after axis, in the order of Pillow 13 whichever is installed.

    Each pass rounds to 8 bits, so the order shows in the pixels. Older releases begin with the width; 13
    begins with the height where that loses more than twice the pixels (python-pillow/Pillow#9549).
    """
    lost = rgb.height - height
    height_first = lost > 0 and lost > 2 * (rgb.width - width)
    between = (rgb.width, height) if height_first else (width, rgb.height)
    how = Image.Resampling.BICUBIC
    return np.asarray(rgb.resize(between, how).resize((width, height), how), dtype=np.uint8)
