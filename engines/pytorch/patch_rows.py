"""The rows that a vision tower's first product reads, of bytes or of normalised numbers.

Legend: I tiles, S side in pixels, C colours, L rows of a tile, W their width.
"""

from torch import Tensor

from engines.ops import BytePixels, PatchLayout


def patch_rows(pixels: Tensor | BytePixels, layout: PatchLayout) -> Tensor:
    """Return [I, L, W] as `PatchLayout` says; patches come row by row.

    Pixels to the right of the last whole patch and below it are left out, as by a convolution.
    """
    numbers_ISSC = pixels.numbers() if isinstance(pixels, BytePixels) else pixels
    num, height, width, _ = numbers_ISSC.shape
    patch, first, behind = layout.patch, int(layout.has_class), layout.num_pixels
    rows, columns = height // patch, width // patch
    whole_ISSC = numbers_ISSC[:, : rows * patch, : columns * patch]
    cells = whole_ISSC.reshape(num, rows, patch, columns, patch, 3).permute(0, 1, 3, 5, 2, 4)
    out_ILW = cells.new_zeros(num, first + rows * columns, layout.width)
    out_ILW[:, first:, :behind].view(cells.shape).copy_(cells)
    out_ILW[:, first:, behind] = 1
    out_ILW[:, :first, behind + 1] = 1
    return out_ILW
