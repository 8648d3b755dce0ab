"""Neighbours of square maps joined into one row: what upstreams call a pixel shuffle.

Legend: I maps, L rows of a map, H their width.
"""

from torch import Tensor


def joined_cells(x_ILH: Tensor, factor: int, *, by_columns: bool) -> Tensor:
    """Return [I, L / factor^2, factor^2 * H]: cell (r, s) holds rows (factor r + a, factor s + b).

    Of these a comes before b. Cells come row by row, or column by column.
    """
    num, length, hidden = x_ILH.shape
    grid = round(length**0.5)
    cells = grid // factor
    split = x_ILH.reshape(num, cells, factor, cells, factor, hidden)
    order = (0, 3, 1, 2, 4, 5) if by_columns else (0, 1, 3, 2, 4, 5)
    return split.permute(order).reshape(num, cells * cells, factor * factor * hidden)
