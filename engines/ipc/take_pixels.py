"""Pixels that the front end wrote, as the engine holds them: mapped, so that waiting ones cost no copy.

The memory stays that of the file, which is gone from its folder, until the array is dropped.
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import RequestError
from engines.messages import PixelRef


def take_pixels(ref: PixelRef) -> NDArray[np.uint8]:
    """Map an array and unlink its file.

    Raises RequestError where the file is gone or has another size than its shape says.
    """
    path, needed = Path(ref.path), math.prod(ref.shape)
    try:
        found = path.stat().st_size
        # torch closes the file behind the mapping; numpy and mmap would keep a descriptor for each picture.
        whole = (
            torch.from_file(ref.path, shared=True, size=needed, dtype=torch.uint8)
            if found == needed
            else None
        )
    except (OSError, RuntimeError) as error:
        raise RequestError(f"pixels {ref.path} cannot be read: {_why(error)}", code="engine_error") from error
    path.unlink(missing_ok=True)
    if whole is None:
        raise RequestError(
            f"pixels {ref.path}: {found} bytes, shape {ref.shape} needs {needed}", code="engine_error"
        )
    array: NDArray[np.uint8] = whole.numpy().reshape(ref.shape)
    return array


def _why(error: Exception) -> str | None:
    return error.strerror if isinstance(error, OSError) else str(error)
