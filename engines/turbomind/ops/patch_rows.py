"""Launches `kernels/patch_rows.cu`: the rows of a vision tower's first product.

Legend: I tiles, S side in pixels, C colours, L rows of a tile, W their width.
"""

from typing import TypeGuard

import torch
from torch import Tensor

from engines.ops import BytePixels, PatchLayout
from engines.turbomind.gpu import SCALARS, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned

_THREADS = 1024


def takes(pixels: Tensor | BytePixels, gpu: Gpu, layout: PatchLayout) -> TypeGuard[BytePixels]:
    """Return whether the kernel can make these rows: of bytes, where a line of patches fits a block.

    Patches fill the pictures: SigLIP's of 14 pixels leave 6 of 384, and those are torch's.
    """
    if not isinstance(pixels, BytePixels) or pixels.numbers_C256.dtype not in SCALARS:
        return False
    width_bytes = layout.width * pixels.numbers_C256.element_size()
    line_bytes = 3 * layout.patch * pixels.bytes_ISSC.shape[2]
    fits = layout.patch * line_bytes + 3 * 256 * 4 <= gpu.shared_bytes_per_block
    fills = not any(side % layout.patch for side in pixels.bytes_ISSC.shape[1:3])
    return (
        fills and layout.patch % 2 == 0 and width_bytes % 16 == 0 and fits and pixels.bytes_ISSC.numel() > 0
    )


def patch_rows(gpu: Gpu, pixels: BytePixels, layout: PatchLayout) -> Tensor:
    """Return the rows of all patches, [I, L, W]; the numbers are those that the table gives for bytes."""
    bytes_ISSC, numbers_C256 = pixels.bytes_ISSC.contiguous(), pixels.numbers_C256
    num, height, width, _ = bytes_ISSC.shape
    rows, columns = height // layout.patch, width // layout.patch
    kernel = planned(
        gpu,
        "patch_rows",
        (bytes_ISSC, numbers_C256),
        lambda: _kernel(gpu, bytes_ISSC, numbers_C256, layout),
        layout,
    )
    length = int(layout.has_class) + rows * columns
    out = torch.empty(num, length, layout.width, dtype=numbers_C256.dtype, device=bytes_ISSC.device)
    pointers = (bytes_ISSC.data_ptr(), numbers_C256.data_ptr(), out.data_ptr())
    kernel(gpu.stream(), (rows, num), *pointers, int(layout.has_class))
    return out


def _kernel(gpu: Gpu, bytes_ISSC: Tensor, numbers_C256: Tensor, layout: PatchLayout) -> Kernel:
    """Return the kernel for checked operands."""
    dtype = numbers_C256.dtype
    num, height, width, _ = bytes_ISSC.shape
    check(
        gpu,
        "patch_rows",
        pixels=(bytes_ISSC, torch.uint8, (num, height, width, 3)),
        numbers=(numbers_C256, dtype, (3, 256)),
    )
    columns = width // layout.patch
    constants = (
        ("SCALAR", SCALARS[dtype]),
        ("PATCH", layout.patch),
        ("COLUMNS", columns),
        ("WIDTH", layout.width),
    )
    shared_bytes = 3 * layout.patch**2 * columns
    return gpu.kernel(
        "patch_rows.cu", "patch_rows", constants, "PPPi", threads=_THREADS, shared_bytes=shared_bytes
    )
