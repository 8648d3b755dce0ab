"""A picture resized in 8 bits and cut into tiles, in integers of torch: the same bytes as Pillow's.

Legend: Y, X lines and columns of a picture, I tiles, S their side, C colours; N new pixels of an axis.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.ops import AxisPass
from engines.vision.pixels.resample import PRECISION_BITS


def cut_tiles(picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
    """Write the resized picture into its tiles, row by row of tiles."""
    picture_YXC = picture_YX4[..., :3]
    for one in passes:
        picture_YXC = _along(picture_YXC, one)
    side = out_ISSC.shape[1]
    rows, columns = picture_YXC.shape[0] // side, picture_YXC.shape[1] // side
    tiles = picture_YXC.reshape(rows, side, columns, side, 3).transpose(1, 2)
    out_ISSC.copy_(tiles.reshape(out_ISSC.shape))


def _along(picture_YXC: Tensor, one: AxisPass) -> Tensor:
    """Return the picture with one axis resized, uint8; sums of 8-bit numbers and weights fit into 32 bits."""
    axis = 0 if one.is_down else 1
    last = picture_YXC.shape[axis] - 1
    sums: Tensor | None = None
    for k, weight_N in enumerate(one.weight_KN):
        pixels = picture_YXC.index_select(axis, (one.first_N + k).clamp(max=last))
        weighted = pixels.to(torch.int32) * weight_N.view((-1, 1, 1) if one.is_down else (1, -1, 1))
        sums = weighted if sums is None else sums.add_(weighted)
    assert sums is not None, "an axis has taps"
    half = 1 << (PRECISION_BITS - 1)
    return ((sums + half) >> PRECISION_BITS).clamp_(0, 255).to(torch.uint8)
