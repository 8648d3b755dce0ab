"""What several towers and assemblies do alike: numbers from bytes, patches as rows, passes of a limited size.

Legend: I tiles, S side in pixels, C colours, L patches of a tile.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engines.ops import BytePixels
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, tower_name


class Normaliser:
    """uint8 colours to the numbers that a tower reads, (x/255 - mean) / std in fp32, then cast."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._mean_C = torch.tensor(mean, device=device)
        self._std_C = torch.tensor(std, device=device)
        self._dtype = dtype
        every_byte = torch.arange(256, dtype=torch.uint8, device=device)
        self._numbers_C256 = self(every_byte.unsqueeze(1).expand(256, 3)).T.contiguous()

    @classmethod
    def of(cls, spec: VisionSpec, like: Tensor) -> "Normaliser":
        """Return that of a model's pixels, for a tower with parameters like this one."""
        return cls(spec.pixels.mean, spec.pixels.std, device=like.device, dtype=like.dtype)

    def __call__(self, pixels_ISSC: Tensor) -> Tensor:
        """Return [..., C] for uint8 [..., C]; floats are taken as numbers that are normalised already."""
        if pixels_ISSC.is_floating_point():
            return pixels_ISSC.to(self._dtype)
        numbers_ISSC = (pixels_ISSC.to(torch.float32) / 255 - self._mean_C) / self._std_C
        return numbers_ISSC.to(self._dtype)

    def later(self, pixels_ISSC: Tensor) -> Tensor | BytePixels:
        """Return bytes with the numbers that they become, for towers that look them up; floats as above."""
        if pixels_ISSC.is_floating_point():
            return self(pixels_ISSC)
        return BytePixels(bytes_ISSC=pixels_ISSC, numbers_C256=self._numbers_C256)


def tower_weight(spec: VisionSpec, params: Params) -> Tensor:
    """Return a parameter of the first tower, for the device and number format of all of them."""
    return params[next(spec.towers[0].parameters(tower_name(0))).name]


def patch_rows(pixels_ISSC: Tensor, patch: int) -> Tensor:
    """Return the pixels of each patch as a row, [I, L, 3 * patch^2], in the order of a convolution's weight.

    Tiles may have any height and width that are multiples of `patch`; patches come row by row.
    """
    num, height, width, _ = pixels_ISSC.shape
    rows, columns = height // patch, width // patch
    cells = pixels_ISSC.reshape(num, rows, patch, columns, patch, 3).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(num, rows * columns, 3 * patch * patch)


def on_device(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Return an array of a picture on the device; `Vlm` has brought it there already (`device_pixels.py`)."""
    if isinstance(array, Tensor):
        return array
    return torch.from_numpy(np.array(array)).to(device)  # torch takes no memory that is read-only


def stacked(images: Sequence[ImagePixels], device: torch.device) -> Tensor:
    """Return the first arrays of all images, one below the other, on the device: uint8 [I, S, S, C]."""
    parts = [on_device(image.arrays[0], device) for image in images]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def in_passes(encode: Callable[[Tensor], Tensor], tiles_ISSC: Tensor, max_tiles: int) -> Tensor:
    """Encode tiles in passes of at most so many; return [I, ...]."""
    parts = [encode(tiles_ISSC[i : i + max_tiles]) for i in range(0, len(tiles_ISSC), max_tiles)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def per_image(rows_IMH: Tensor, images: Sequence[ImagePixels]) -> list[Tensor]:
    """Share out the rows of tiles: [rows of all its tiles, H] for each image.

    A copy each: a view would keep all images of a pass alive as long as one of them.
    """
    ends = list(accumulate((len(image.arrays[0]) for image in images), initial=0))
    return [rows_IMH[start:end].flatten(0, 1).clone() for start, end in pairwise(ends)]


def resized_map(x_IyxC: Tensor, side: int) -> Tensor:
    """Return a square map of another size, bilinear in fp32."""
    if x_IyxC.shape[1] == side:
        return x_IyxC
    maps = x_IyxC.permute(0, 3, 1, 2).float()
    resized = F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(x_IyxC.dtype)


def resized_table(table_LH: Tensor, grid: int, *, class_rows: int = 0) -> Tensor:
    """Return a square table of positions for another grid, bicubic in fp32; the first `class_rows` stay."""
    first_LH, square_LH = table_LH[:class_rows], table_LH[class_rows:]
    own = round(len(square_LH) ** 0.5)
    if own == grid:
        return table_LH
    cells_1Hyx = square_LH.float().view(1, own, own, -1).permute(0, 3, 1, 2)
    resized_1Hyx = F.interpolate(cells_1Hyx, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first_LH, resized_1Hyx[0].flatten(1).T.to(table_LH.dtype)])
