"""Tiles in their order, so many rows each: InternVL, and all that give one square picture. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class TilesSpec(AssemblySpec):
    """Every tile goes through tower and projector by itself."""

    kind: Literal["tiles"] = "tiles"
    rows_per_tile: int
    before: str = ""  # text around a picture's rows, where the chat template does not write it
    after: str = ""

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        texts_and_rows = (self.before, plan.num_tiles * self.rows_per_tile, self.after)
        return tuple(segment for segment in texts_and_rows if segment != "")

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.tiles import Tiles

        return Tiles(spec, params, ops=ops)
