"""Launches `kernels/cut_tiles.cu`: a picture resized axis after axis, the last pass as tiles.

Legend: as in `engines/pytorch/cut_tiles.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import AxisPass
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check

_THREADS = 256
_MOST_ROWS = 65_535  # of a grid


def cut_tiles(gpu: Gpu, picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
    """Write the resized picture into its tiles, row by row of tiles."""
    *before, last = passes
    for one in before:
        between_YX4 = picture_YX4.new_empty(*_new_size(picture_YX4, one), 4)
        _launch(gpu, picture_YX4, one, between_YX4, side=None)
        picture_YX4 = between_YX4
    rows, columns = _new_size(picture_YX4, last)
    side = out_ISSC.shape[1]
    if rows % side or columns % side:
        raise KernelError(f"`cut_tiles`: {columns} x {rows} pixels are no whole tiles of {side}")
    tiles = (rows // side) * (columns // side)
    check(gpu, "cut_tiles", out=(out_ISSC, torch.uint8, (tiles, side, side, 3)))
    _launch(gpu, picture_YX4, last, out_ISSC, side=side)


def _new_size(picture_YX4: Tensor, one: AxisPass) -> tuple[int, int]:
    """Return rows and columns behind a pass."""
    height, width, _ = picture_YX4.shape
    return (len(one.first_N), width) if one.is_down else (height, len(one.first_N))


def _launch(gpu: Gpu, picture_YX4: Tensor, one: AxisPass, out: Tensor, *, side: int | None) -> None:
    """Resize an axis; `side` is that of tiles, None where another pass follows."""
    height, width, _ = picture_YX4.shape
    rows, columns = _new_size(picture_YX4, one)
    taps = len(one.weight_KN)
    check(
        gpu,
        "cut_tiles",
        picture=(picture_YX4, torch.uint8, (height, width, 4)),
        first=(one.first_N, torch.int32, (len(one.first_N),)),
        weight=(one.weight_KN, torch.int32, (taps, len(one.first_N))),
    )
    constants = (("TILES", int(side is not None)),)
    kernel = gpu.kernel("cut_tiles.cu", "cut_axis", constants, "PPPPiiiiii", threads=_THREADS)
    kernel(
        gpu.stream(),
        (-(-columns // _THREADS), min(rows, _MOST_ROWS)),
        *(tensor.data_ptr() for tensor in (picture_YX4, one.first_N, one.weight_KN, out)),
        int(one.is_down),
        height if one.is_down else width,
        rows,
        columns,
        taps,
        side or 1,
    )
