"""How `kernels/device/flash.cuh` is cut for one head size on one GPU. Pure; shared by its two launchers."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from engines.errors import KernelError
from engines.turbomind.gpu import Constants, Gpu

_RESERVED_BYTES = 1024  # shared memory the driver takes of each block

# Warps, 16-row tiles a warp, keys a tile, keys a span, blocks an SM.
Cut = tuple[int, int, int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlashShape:
    """How a block is cut."""

    warps: int
    row_tiles: int
    keys: int
    span: int
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
            ("SPAN", self.span),
            ("BLOCKS_PER_SM", self.blocks_per_sm),
        )


def make_shape(
    warps: int, row_tiles: int, keys: int, span: int, blocks_per_sm: int, *, dim: int
) -> FlashShape:
    """Return a shape with the shared memory it needs: the kernel's `Layout`."""
    return FlashShape(
        warps=warps,
        row_tiles=row_tiles,
        keys=keys,
        span=span,
        blocks_per_sm=blocks_per_sm,
        shared_bytes=(16 * warps * row_tiles + 4 * keys) * (2 * dim + 16),
    )


@lru_cache(maxsize=64)
def flash_shape(
    cuts: tuple[tuple[int, Cut], ...], dim: int, *, bytes_per_block: int, bytes_per_sm: int
) -> FlashShape:
    """Return the first of `cuts`, each with the largest head size it is for, that fits the GPU.

    Raises KernelError where none does.
    """
    for largest, cut in cuts:
        shape = make_shape(*cut, dim=dim)
        enough = shape.blocks_per_sm * (shape.shared_bytes + _RESERVED_BYTES) <= bytes_per_sm
        if dim <= largest and dim % 16 == 0 and enough and shape.shared_bytes <= bytes_per_block:
            return shape
    largest = max(size for size, _ in cuts)
    raise KernelError(
        f"attention with heads of {dim} elements: multiples of 16 up to {largest} run on this GPU"
    )


def most_blocks(num_rows: int, num_seqs: int, rows_per_block: int) -> int:
    """Return the largest number of blocks that `num_rows` rows in `num_seqs` sequences can need.

    Each sequence has at least one row; all but its last block are full.
    """
    return num_seqs + (num_rows - num_seqs) // rows_per_block if num_rows > num_seqs else num_seqs


def matrix_fault(gpu: Gpu, dtype: torch.dtype) -> list[str]:
    """Return what is wrong with computing in `dtype` on the tensor cores of this GPU."""
    if dtype == torch.float16 or (dtype == torch.bfloat16 and gpu.capability >= (8, 0)):
        return []
    others = "float16 or bfloat16" if gpu.capability >= (8, 0) else "float16"
    return [f"{dtype} is no matrix format of this GPU; use {others}"]
