"""Blocks of different shapes through the tower as rows of patches, and through the resampler one by one.

A block goes through the tower as a picture one patch high: its patches side by side, zeros behind them up to
the prompt's largest block. The tower sees that padding, the resampler does not. Positions are those of such a
picture, so they depend on the padded length.

Source: MiniCPM-Llama3-V-2.5, modeling_minicpmv.py; its attention mask is true everywhere.

Legend: I blocks, P patch side, X pixels of a row of patches, C colours, M padded patches, W tower hidden, Q
rows of a block, O decoder hidden.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.assembly.slices_spec import SlicesRowsSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, in_passes, on_device


class SlicesRows:
    """The encoder."""

    def __init__(self, assembly: SlicesRowsSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._patch = assembly.patch
        self._table_side = assembly.table_side
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._normalised = Normaliser.of(spec, self._weight)
        self._tower = spec.towers[0].build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [blocks * Q, O] of each image."""
        return [
            torch.cat([self._encode(array, image.shared, max_tiles) for array in image.arrays]).flatten(0, 1)
            for image in images
        ]

    def _encode(self, blocks: NDArray[Any] | Tensor, shared: tuple[int, ...], max_tiles: int) -> Tensor:
        """Return [I, Q, O] of blocks of one shape."""
        pixels_IYXC = self._normalised(on_device(blocks, self._weight.device))
        rows, columns = (size // self._patch for size in pixels_IYXC.shape[1:3])
        length = max((*shared, rows * columns))
        positions_M = torch.tensor(row_positions(length, self._table_side), device=self._weight.device)
        tower = partial(self._tower, position_ids_L=positions_M)
        features_IMW = in_passes(tower, _in_one_row(pixels_IYXC, self._patch, length), max_tiles)
        rows_IQO: Tensor = self._projector(features_IMW[:, : rows * columns], (columns, rows))
        return rows_IQO


def _in_one_row(pixels_IYXC: Tensor, patch: int, length: int) -> Tensor:
    """Return the patches of each block side by side, [I, P, M * P, C], zeros behind them."""
    num, height, width, _ = pixels_IYXC.shape
    rows, columns = height // patch, width // patch
    cells = pixels_IYXC.view(num, rows, patch, columns, patch, 3).permute(0, 2, 1, 3, 4, 5)
    row_IPXC = cells.reshape(num, patch, rows * columns * patch, 3)
    return F.pad(row_IPXC, (0, 0, 0, (length - rows * columns) * patch))


def row_positions(length: int, table_side: int) -> list[int]:
    """Return the row of the position table for each patch of a picture one patch high.

    The rounding of this arithmetic, with its step in fp32, is part of the model.
    """
    step = (1 / torch.tensor(length)).item()
    fractions_M = torch.arange(0, 1 - 1e-6, step)
    edges = torch.arange(1 / table_side, 1.0, 1 / table_side)
    ids: list[int] = torch.bucketize(fractions_M, edges, right=True).tolist()
    return ids
