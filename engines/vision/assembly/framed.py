"""Pictures of one tile through tower and projector, each between two learned rows.

Legend: I pictures, S side in pixels, C colours, M rows a picture gives, O decoder hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.assembly.framed_spec import FramedSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, in_passes, per_image, stacked


class Framed:
    """The encoder."""

    def __init__(self, framed: FramedSpec, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._divisor = framed.divisor
        self._weight = params[f"{tower_name(0)}.patch.weight"]
        self._normaliser = Normaliser.of(spec, self._weight)
        self._tower = spec.towers[0].build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)
        self._first_O, self._last_O = params["assembly.first"], params["assembly.last"]

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [M, O] of each picture."""
        rows_IMO = in_passes(self._encode, stacked(images, self._weight.device), max_tiles)
        return per_image(rows_IMO, images)

    def _encode(self, tiles_ISSC: Tensor) -> Tensor:
        rows_IMO = self._projector(self._tower(self._normaliser.later(tiles_ISSC)))
        first_I1O, last_I1O = (row.expand(len(rows_IMO), 1, -1) for row in (self._first_O, self._last_O))
        return torch.cat([first_I1O, rows_IMO, last_I1O], dim=1) / self._divisor
