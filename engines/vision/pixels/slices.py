"""A picture as a whole and in slices, in 8 bits. Torch-free."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.vision.parts import ImagePlan
from engines.vision.pixels.resize import bicubic
from engines.vision.pixels.slice_sizes import slice_size, source_size
from engines.vision.pixels.slices_spec import SlicesSpec


def slices(rgb: Image.Image, plan: ImagePlan, spec: SlicesSpec) -> tuple[NDArray[np.uint8], ...]:
    """Return the whole picture, uint8 [1, height, width, 3], and its slices, uint8 [slices, ...]."""
    whole = bicubic(rgb, *source_size(plan, side=spec.side, patch=spec.patch))[None]
    if plan.num_tiles == 1:
        return (whole,)
    columns, rows = plan.grid
    width, height = slice_size(plan, side=spec.side, patch=spec.patch)
    refined = bicubic(rgb, width * columns, height * rows)
    cells = refined.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return whole, np.ascontiguousarray(cells.reshape(rows * columns, height, width, 3))
