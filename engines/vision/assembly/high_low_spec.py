"""One square picture seen by two towers, by the second at a lower resolution: DeepSeek-VL-7B. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class HighLowSpec(AssemblySpec):
    """The pixels' mean and std are the first tower's."""

    kind: Literal["high_low"] = "high_low"
    rows: int  # of a picture; both towers give as many
    low_image: int  # pixels a side for the second tower
    low_mean: tuple[float, float, float]
    low_std: tuple[float, float, float]

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        return (self.rows,)

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.high_low import HighLow

        return HighLow(self, spec, params, ops=ops)
