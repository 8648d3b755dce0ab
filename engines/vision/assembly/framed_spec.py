"""A learned row before and one behind the rows of a picture: CogVLM, GLM-4V. Torch-free."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class FramedSpec(AssemblySpec):
    """One tile a picture."""

    kind: Literal["framed"] = "framed"
    rows_per_tile: int  # without the two
    divisor: float = 1.0  # of every row, the two included

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        return (self.rows_per_tile + 2,)

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the two rows."""
        yield Parameter(name="assembly.first", shape=(out,), role="embedding")
        yield Parameter(name="assembly.last", shape=(out,), role="embedding")

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.framed import Framed

        return Framed(self, spec, params, ops=ops)
