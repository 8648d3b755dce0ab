"""LLaVA-1.6: the whole picture's rows, then the map of its tiles line by line.

Legend: I tiles, S side in pixels, C colours, M rows a tile gives, O decoder hidden; y, x a map's lines and
columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.parts import ImagePixels, ImagePlan, tower_name
from engines.vision.passes import Normaliser, in_passes, stacked, tower_weight


class Anyres:
    """The encoder."""

    def __init__(self, rows: AnyresRowsSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._rows = rows
        self._weight = tower_weight(spec, params)
        self._normaliser = Normaliser.of(spec, self._weight)
        self._tower = spec.towers[0].build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)
        self._newline_O = params.get("newline")

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return the rows [M, O] of each image."""
        rows_IMO = in_passes(self._encode, stacked(images, self._weight.device), max_tiles)
        parts = torch.split(rows_IMO, [image.plan.num_tiles for image in images])
        return [self._joined(part, image.plan) for part, image in zip(parts, images, strict=True)]

    def _encode(self, tiles_ISSC: Tensor) -> Tensor:
        return self._projector(self._tower(self._normaliser.later(tiles_ISSC)))

    def _joined(self, tiles_IMO: Tensor, plan: ImagePlan) -> Tensor:
        newline_O = self._newline_O
        if newline_O is None:
            return tiles_IMO.flatten(0, 1).clone()
        if len(tiles_IMO) == 1:
            return torch.cat([tiles_IMO[0], newline_O.unsqueeze(0)])
        (columns, rows), side = plan.grid, self._rows.side
        grid = tiles_IMO[1:].view(rows, columns, side, side, -1)
        map_yxO = grid.transpose(1, 2).reshape(rows * side, columns * side, -1)
        xs, ys = self._rows.kept(plan)
        shown_yxO = map_yxO[ys.start : ys.stop, xs.start : xs.stop]
        lines_yxO = torch.cat([shown_yxO, newline_O.expand(len(ys), 1, -1)], dim=1)
        return torch.cat([tiles_IMO[0], lines_yxO.flatten(0, 1)])
