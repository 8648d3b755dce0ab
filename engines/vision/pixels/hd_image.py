"""A picture scaled to whole tiles and padded with white.

Source: Phi-3-vision's image_processing_phi3_v.py and InternLM-XComposer2.5's ixc_utils.py. Torch-free.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.vision.parts import ImagePlan
from engines.vision.pixels.hd_image_spec import HdImageSpec
from engines.vision.pixels.resize import bilinear

WHITE = 255


def hd_image(rgb: Image.Image, plan: ImagePlan, spec: HdImageSpec) -> NDArray[np.uint8]:
    """Return the padded picture, uint8 [rows * tile, columns * tile, 3]."""
    is_high = rgb.width < rgb.height
    columns, rows = plan.grid
    if is_high:
        rgb, columns, rows = rgb.transpose(Image.Transpose.TRANSPOSE), rows, columns
    width, height = columns * spec.tile, int(columns * spec.tile / (rgb.width / rgb.height))
    resized = bilinear(rgb, width, max(height, 1))
    white = rows * spec.tile - len(resized)
    above = white // 2 if spec.pad == "around" else 0
    padded = np.pad(resized, ((above, white - above), (0, 0), (0, 0)), constant_values=WHITE)
    return np.ascontiguousarray(padded.swapaxes(0, 1)) if is_high else padded
