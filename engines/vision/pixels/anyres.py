"""Any resolution: cutting the tiles. Torch-free.

Source: haotian-liu/LLaVA, llava/mm_utils.py (process_anyres_image).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.vision.parts import ImagePlan
from engines.vision.pixels.anyres_spec import fitted_size
from engines.vision.pixels.resize import bicubic, centred, cut

BLACK = (0, 0, 0)


def anyres(rgb: Image.Image, plan: ImagePlan, side: int) -> NDArray[np.uint8]:
    """Return uint8 [tiles, side, side, 3]: the whole picture squashed, then the plan's grid row by row."""
    whole = bicubic(rgb, side, side)[None]
    columns, rows = plan.grid
    if columns * rows == 0:
        return whole
    canvas = (columns * side, rows * side)
    fitted = bicubic(rgb, *fitted_size(rgb.width, rgb.height, canvas))
    return np.concatenate([whole, cut(centred(fitted, *canvas, BLACK), side)])
