"""Tiles of packed words, made stretch by stretch of a matrix, so that few of its integers wait in memory.

Legend: Y and X tiles along inputs and outputs, B bytes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def tiles_of(
    stretches: Iterable[Tensor], tiles_y: int, tiles_x: int, tile_bytes: int, *, device: torch.device
) -> Tensor:
    """Return tiles [Y, X, B] uint8 that hold the words of stretches along X, each int32 [Y, its X, ...]."""
    tiles_YXB = torch.empty(tiles_y, tiles_x, tile_bytes, dtype=torch.uint8, device=device)
    words_YXW = tiles_YXB.view(torch.int32)
    first = 0
    for stretch in stretches:
        end = first + stretch.shape[1]
        words_YXW[:, first:end].view(stretch.shape).copy_(stretch)
        first = end
    return tiles_YXB
