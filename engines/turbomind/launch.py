"""One loaded kernel and the cheapest way to start it from Python.

`cuLaunchKernelEx` is called through ctypes with a configuration and an argument block that were laid out
once: a launch packs its arguments, sets the grid and the stream, and makes one call. The argument block
belongs to the kernel object, so one thread launches (an engine has one); the driver copies the block before
the call returns.
"""

import ctypes
import struct
from functools import cache
from typing import Any

from engines.errors import KernelError

# CUlaunchAttributeID of cuda.h 13.0: the kernel may start before the one ahead of it in the stream has ended.
_PROGRAMMATIC_STREAM_SERIALIZATION = 6

# CUtensorMap of cuda.h 13.0.
_MAP_BYTES = 128
_MAP_ALIGNMENT = 64


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: an id and a union of 64 bytes, of which one int is used here."""

    _fields_ = (
        ("id", ctypes.c_uint),
        ("pad", ctypes.c_char * 4),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_char * 60),
    )


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid_x", ctypes.c_uint),
        ("grid_y", ctypes.c_uint),
        ("grid_z", ctypes.c_uint),
        ("block_x", ctypes.c_uint),
        ("block_y", ctypes.c_uint),
        ("block_z", ctypes.c_uint),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("num_attributes", ctypes.c_uint),
    )


class Kernel:
    """A kernel entry on one GPU with its block size, dynamic shared memory and argument types.

    With `overlap` a launch may start while the kernel ahead of it still runs (programmatic dependent launch);
    every kernel of `kernels/` waits for that one itself before it reads what it wrote. `arguments` has a
    letter per parameter: P pointer, i int, q 64-bit int, f float as in the `struct` module, M the 128 bytes
    of a tensor map.
    """

    __slots__ = (
        "_attribute",
        "_block",
        "_config",
        "_config_at",
        "_first",
        "_function",
        "_launch",
        "_pack",
        "_slots",
        "name",
    )

    def __init__(
        self, name: str, function: int, *, arguments: str, threads: int, shared_bytes: int, overlap: bool
    ) -> None:
        self.name = name
        self._function = function
        layout, offsets = _argument_layout(arguments)
        self._block = ctypes.create_string_buffer(layout.size + _MAP_ALIGNMENT)
        start = ctypes.addressof(self._block)
        self._first = -start % _MAP_ALIGNMENT
        self._pack = layout.pack_into
        self._slots = (ctypes.c_void_p * max(1, len(arguments)))(
            *(start + self._first + offset for offset in offsets)
        )
        self._config = _Config(
            grid_y=1, grid_z=1, block_x=threads, block_y=1, block_z=1, shared_bytes=shared_bytes
        )
        self._attribute = _Attribute(id=_PROGRAMMATIC_STREAM_SERIALIZATION, value=1)
        if overlap:
            self._config.attributes = ctypes.addressof(self._attribute)
            self._config.num_attributes = 1
        self._config_at = ctypes.addressof(self._config)
        self._launch = driver().cuLaunchKernelEx

    def __call__(self, stream: int, grid: tuple[int, int], *arguments: float | bytes) -> None:
        """Start grid[0] x grid[1] blocks on a stream. Raises KernelError where the driver refuses."""
        config = self._config
        config.grid_x, config.grid_y = grid
        config.stream = stream
        self._pack(self._block, self._first, *arguments)
        status = self._launch(self._config_at, self._function, self._slots, None)
        if status:
            raise KernelError(f"kernel `{self.name}` was not started, grid {grid}: {status_name(status)}")


def _argument_layout(arguments: str) -> tuple[struct.Struct, list[int]]:
    """Return how arguments are packed and the offset of each."""
    text, offsets, end = "=", [], 0
    for letter in arguments:
        kind = f"{_MAP_BYTES}s" if letter == "M" else letter
        size = struct.calcsize("@" + kind)
        gap = -end % (_MAP_ALIGNMENT if letter == "M" else size)
        offsets.append(end + gap)
        text += f"{gap}x{'Q' if letter == 'P' else kind}"
        end += gap + size
    return struct.Struct(text), offsets


@cache
def driver() -> Any:
    """Return the driver's library. Raises KernelError where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise KernelError(
            f"engine=turbomind needs an NVIDIA driver: {error}; use `engine=pytorch` here"
        ) from error
    driver.cuLaunchKernelEx.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return driver


def status_name(status: int) -> str:
    """Return the driver's word for a status."""
    name = ctypes.c_char_p()
    driver().cuGetErrorName(status, ctypes.byref(name))
    return name.value.decode() if name.value else f"CUDA error {status}"
