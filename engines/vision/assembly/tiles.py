"""Tiles through tower and projector, several pictures in one pass.

Legend: I tiles, S side in pixels, C colours, M rows a tile gives, O decoder hidden.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from engines.ops import Ops
from engines.quant.linear_tensors import Params
from engines.spec import VisionSpec
from engines.vision.parts import ImagePixels, tower_name
from engines.vision.passes import Normaliser, in_passes, per_image, stacked, tower_weight

if TYPE_CHECKING:
    from engines.vision.parts import EncodePass, RecordPass


class Tiles:
    """The encoder."""

    def __init__(self, spec: VisionSpec, params: Params, *, ops: Ops) -> None:
        self._weight = tower_weight(spec, params)
        self._normaliser = Normaliser.of(spec, self._weight)
        self._tower = spec.towers[0].build(params, tower_name(0), ops=ops)
        self._projector = spec.projector.build(params, ops=ops)
        largest = spec.pixels.largest()
        self._tile_shape, self._most_tiles = spec.pixels.shapes(largest)[0][1:], largest.num_tiles
        self._pass: EncodePass = self._encode

    def __call__(self, images: Sequence[ImagePixels], max_tiles: int) -> list[Tensor]:
        """Return [tiles * M, O] of each image."""
        rows_IMO = in_passes(self._pass, stacked(images, self._weight.device), max_tiles)
        return per_image(rows_IMO, images)

    def record(self, record: "RecordPass") -> None:
        """Take passes from what `record` makes of one from now on."""
        self._pass = record(self._encode, self._tile_shape, self._most_tiles)

    def _encode(self, tiles_ISSC: Tensor) -> Tensor:
        return self._projector(self._tower(self._normaliser.later(tiles_ISSC)))
