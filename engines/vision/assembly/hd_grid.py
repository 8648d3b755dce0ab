"""Global view and tiles of a picture as rows of cells with learned separators.

    picture -> tiles; picture shrunk to a tile -> global view; all through the tower
    view: cells of 2 x 2 patches on the view's grid, a newline behind each row of cells
    rows: projector([one view, separator, the other view])

Source: Phi-3-vision's image_embedding_phi3_v.py (hd_feature_transform), InternLM-XComposer2.5's build_mlp.py.

Legend: I tiles (the global view first), S side in pixels, C colours, L patches of a tile, H tower hidden,
J four patches joined, M rows, O decoder hidden.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.assembly.hd_grid_spec import HdGridSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, in_passes, on_device


class HdGrid:
    """The encoder."""

    def __init__(self, assembly: HdGridSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._assembly = assembly
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._newline_J = params["assembly.newline"]
        self._between_J = params["assembly.between_views"]
        self._normalised = Normaliser.of(spec, self._weight)
        self._tower = spec.towers[0].build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [M, O] of each image."""
        tiles = [self._tiles(image) for image in images]
        features_ILH = in_passes(self._tower, torch.cat(tiles), max_tiles)
        parts = torch.split(features_ILH, [len(part) for part in tiles])
        return [
            self._projector(self._rows(part, image.plan.grid))
            for part, image in zip(parts, images, strict=True)
        ]

    def _tiles(self, image: ImagePixels) -> Tensor:
        """Return the normalised global view and tiles, [I, S, S, C]; a second array is a ready-made view."""
        device = self._weight.device
        columns, rows = image.plan.grid
        picture_HWC = self._normalised(on_device(image.arrays[0], device))
        side = picture_HWC.shape[0] // rows
        if len(image.arrays) > 1:
            view_SSC = self._normalised(on_device(image.arrays[1], device))
        else:
            view_SSC = _shrunk(picture_HWC, side)
        tiles_ISSC = picture_HWC.view(rows, side, columns, side, 3).transpose(1, 2).reshape(-1, side, side, 3)
        return torch.cat([view_SSC[None], tiles_ISSC])

    def _rows(self, features_ILH: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the rows before the projector, [M, J]."""
        whole_MJ, parts_MJ = self._view(features_ILH[:1], (1, 1)), self._view(features_ILH[1:], grid)
        first, second = (whole_MJ, parts_MJ) if self._assembly.global_first else (parts_MJ, whole_MJ)
        return torch.cat([first, self._between_J[None], second])

    def _view(self, features_ILH: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the rows of tiles that lie on a grid, a newline behind each row of cells, [M, J]."""
        columns, rows = grid
        cells, hidden = self._assembly.cells, features_ILH.shape[-1]
        split = features_ILH.view(rows, columns, cells, 2, cells, 2, hidden).permute(0, 2, 1, 4, 3, 5, 6)
        map_YXJ = split.reshape(rows * cells, columns * cells, 4 * hidden)
        newlines_Y1J = self._newline_J.expand(rows * cells, 1, -1)
        return torch.cat([map_YXJ, newlines_Y1J], dim=1).flatten(0, 1)


def _shrunk(picture_HWC: Tensor, side: int) -> Tensor:
    """Return the normalised picture squashed to a square, bicubic, without averaging what is skipped."""
    whole_1CHW = picture_HWC.float().permute(2, 0, 1)[None]
    view_1CSS = F.interpolate(whole_1CHW, size=(side, side), mode="bicubic", align_corners=False)
    return view_1CSS[0].permute(1, 2, 0).to(picture_HWC.dtype)
