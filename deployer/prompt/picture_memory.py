"""The memory in which Pillow keeps an RGB picture, as an array: 4 bytes a pixel, the fourth unused.

From 11.2 on Pillow hands it out without a copy: a list of 4 numbers a pixel in the C data interface of Apache
Arrow (https://arrow.apache.org/docs/format/CDataInterface.html). A picture that lies in several blocks of
memory (16 MiB each, unless `keep_in_one_piece` was called before) is put together from bands of a few lines.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging

_BAND_BYTES = 1 << 20  # stays in a processor's cache between its two copies
_PAGE_BYTES = 1 << 12  # Pillow's blocks are whole pages


class _ArrowArray(ctypes.Structure):
    """ArrowArray of the C data interface."""


_ArrowArray._fields_ = (
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
)


def colours(rgb: Image.Image) -> NDArray[np.uint8]:
    """Return the picture, uint8 [height, width, 4]; its memory is the picture's own where it can be."""
    if not hasattr(rgb, "__arrow_c_array__"):  # before Pillow 11.2
        return np.frombuffer(rgb.tobytes("raw", "RGBX"), np.uint8).reshape(rgb.height, rgb.width, 4)
    try:
        return _shared(rgb)
    except ValueError:  # several blocks of memory
        return _copied(rgb)


def keep_in_one_piece(pixels: int) -> None:
    """Let Pillow keep pictures of up to so many pixels in one block of memory, in all of this process.

    It is what the environment variable PILLOW_BLOCK_SIZE sets; a smaller picture takes no more than before.
    """
    block_bytes = -(-4 * pixels // _PAGE_BYTES) * _PAGE_BYTES
    if block_bytes > _imaging.get_block_size():
        _imaging.set_block_size(block_bytes)


def _shared(rgb: Image.Image) -> NDArray[np.uint8]:
    """Return the memory itself. Raises ValueError where it is not in one piece."""
    _, capsule = rgb.__arrow_c_array__()
    address = _pointer(capsule, b"arrow_array")
    pixels = ctypes.cast(address, ctypes.POINTER(_ArrowArray)).contents
    assert pixels.n_children == 1, "an RGB picture is a list of numbers for each pixel"
    numbers = pixels.children[0].contents
    memory: Any = (ctypes.c_uint8 * (rgb.width * rgb.height * 4)).from_address(numbers.buffers[1])
    memory.owner = capsule  # keeps the picture's memory; the array keeps `memory`
    array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8).reshape(rgb.height, rgb.width, 4)
    return array


def _copied(rgb: Image.Image) -> NDArray[np.uint8]:
    whole = np.empty((rgb.height, rgb.width, 4), np.uint8)
    lines = max(1, _BAND_BYTES // (4 * rgb.width))
    for top in range(0, rgb.height, lines):
        bottom = min(top + lines, rgb.height)
        whole[top:bottom] = _shared(rgb.crop((0, top, rgb.width, bottom)))
    return whole


def _pointer_of_capsule() -> Callable[[object, bytes], int]:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return pointer


_pointer = _pointer_of_capsule()
