"""How `kernels/device/flash.cuh` is cut for one head size on one GPU. Pure; shared by its two launchers."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from engines.errors import KernelError
from engines.turbomind.gpu import Constants, Gpu

_RESERVED_BYTES = 1024  # shared memory the driver takes of each block

# Largest head size -> warps, 16-row tiles a warp, keys a tile, blocks an SM; kernels/LOG.md has the
# measurements. All of them compile without spills for heads up to that size.
_SHAPES = ((64, (4, 2, 64, 2)), (128, (4, 1, 64, 2)), (256, (4, 1, 32, 1)))
_SMALL_SHAPE = (4, 1, 32, 1)  # where shared memory is short


@dataclass(frozen=True, kw_only=True, slots=True)
class FlashShape:
    """How a block is cut."""

    warps: int
    row_tiles: int
    keys: int
    blocks_per_sm: int
    shared_bytes: int

    @property
    def rows(self) -> int:
        """Query rows of a block."""
        return 16 * self.warps * self.row_tiles

    def constants(self, scalar: str, dim: int) -> Constants:
        """Return what `flash.cuh` asks for with -D."""
        return (
            ("SCALAR", scalar),
            ("DIM", dim),
            ("WARPS", self.warps),
            ("ROW_TILES", self.row_tiles),
            ("KEYS", self.keys),
            ("BLOCKS_PER_SM", self.blocks_per_sm),
        )


def make_shape(warps: int, row_tiles: int, keys: int, blocks_per_sm: int, *, dim: int) -> FlashShape:
    """Return a shape with the shared memory it needs: the kernel's `Layout`."""
    shared_bytes = (16 * warps * row_tiles + 2 * keys) * (2 * dim + 16)
    return FlashShape(
        warps=warps, row_tiles=row_tiles, keys=keys, blocks_per_sm=blocks_per_sm, shared_bytes=shared_bytes
    )


@lru_cache(maxsize=64)
def flash_shape(dim: int, *, bytes_per_block: int, bytes_per_sm: int) -> FlashShape:
    """Return the preferred shape that fits. Raises KernelError where none does."""
    for largest, cut in _SHAPES:
        shape = make_shape(*cut, dim=dim)
        enough = shape.blocks_per_sm * (shape.shared_bytes + _RESERVED_BYTES) <= bytes_per_sm
        if dim <= largest and dim % 16 == 0 and enough and shape.shared_bytes <= bytes_per_block:
            return shape
    shape = make_shape(*_SMALL_SHAPE, dim=dim)
    if dim % 16 or dim > 256 or shape.shared_bytes > bytes_per_block:
        raise KernelError(
            f"attention with heads of {dim} elements: multiples of 16 up to 256 run on this GPU"
        )
    return shape


def matrix_fault(gpu: Gpu, dtype: torch.dtype) -> list[str]:
    """Return what is wrong with computing in `dtype` on the tensor cores of this GPU."""
    if dtype == torch.float16 or (dtype == torch.bfloat16 and gpu.capability >= (8, 0)):
        return []
    others = "float16 or bfloat16" if gpu.capability >= (8, 0) else "float16"
    return [f"{dtype} is no matrix format of this GPU; use {others}"]
