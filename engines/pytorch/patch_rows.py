"""The rows that a vision tower's first product reads, of bytes or of normalised numbers.

Legend: I tiles, S side in pixels, C colours, L rows of a tile, W their width.
"""

import torch
from torch import Tensor

from engines.ops import BytePixels, PatchLayout


def patch_rows(pixels: Tensor | BytePixels, layout: PatchLayout) -> Tensor:
    """Return [I, L, W] as `PatchLayout` says; patches come row by row."""
    numbers_ISSC = numbers_of(pixels)
    num, height, width, _ = numbers_ISSC.shape
    patch, first, behind = layout.patch, int(layout.has_class), layout.num_pixels
    rows, columns = height // patch, width // patch
    cells = numbers_ISSC.reshape(num, rows, patch, columns, patch, 3).permute(0, 1, 3, 5, 2, 4)
    out_ILW = cells.new_zeros(num, first + rows * columns, layout.width)
    out_ILW[:, first:, :behind].view(cells.shape).copy_(cells)
    out_ILW[:, first:, behind] = 1
    out_ILW[:, :first, behind + 1] = 1
    return out_ILW


def numbers_of(pixels: Tensor | BytePixels) -> Tensor:
    """Return normalised numbers, [I, S, S, C]."""
    if isinstance(pixels, Tensor):
        return pixels
    starts_C = torch.arange(0, 3 * 256, 256, dtype=torch.int32, device=pixels.bytes_ISSC.device)
    places_ISSC = pixels.bytes_ISSC + starts_C
    return pixels.numbers_C256.flatten().index_select(0, places_ISSC.flatten()).view(places_ISSC.shape)
