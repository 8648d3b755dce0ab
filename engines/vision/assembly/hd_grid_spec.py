"""Global view and tiles, rows of cells with learned separators: Phi-3-vision, XComposer2.5. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment
from engines.weights.parameter import Parameter

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder

JOINED = 4  # 2 x 2 patches become one cell


@dataclass(frozen=True, kw_only=True, slots=True)
class HdGridSpec(AssemblySpec):
    """Cells of 2 x 2 patches, a newline behind each row of them, a separator between the two views.

    Separators stand among tower features, so the projector sees them too.
    """

    kind: Literal["hd_grid"] = "hd_grid"
    cells: int  # a side of a tile
    global_first: bool

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        columns, rows = plan.grid
        return (self._rows(1, 1) + 1 + self._rows(columns, rows),)

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the separators."""
        yield Parameter(name="assembly.newline", shape=(JOINED * width,), role="embedding")
        yield Parameter(name="assembly.between_views", shape=(JOINED * width,), role="embedding")

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.hd_grid import HdGrid

        return HdGrid(self, spec, params, ops=ops)

    def _rows(self, columns: int, rows: int) -> int:
        return rows * self.cells * (columns * self.cells + 1)
