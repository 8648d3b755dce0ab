"""One row a cell, row by row, for pictures of any size and the steps of videos. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeRowsSpec(AssemblySpec):
    """The picture as a whole through tower and projector."""

    kind: Literal["native"] = "native"

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows, as many as the grid has cells, in each step of a video."""
        return (plan.grid[0] * plan.grid[1] * max(1, len(plan.times)),)

    def tiles_a_pass(self, max_tiles: int) -> int:
        """Return one: each picture fills a pass of its own."""
        return 1

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.native import NativeRows

        return NativeRows(spec, params, ops=ops)
