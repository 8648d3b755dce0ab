"""Two towers side by side, then GELU and a linear layer: the aligner of DeepSeek-VL-7B. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ProjectorSpec
from engines.weights.parameter import Parameter, linear

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class HighLowMlpSpec(ProjectorSpec):
    """Half of the row is made of each tower's features; both are equally wide."""

    kind: Literal["high_low_mlp"] = "high_low_mlp"

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the three layers."""
        yield from linear("projector.high", (out // 2, width), bias=True)
        yield from linear("projector.low", (out // 2, width), bias=True)
        yield from linear("projector.fc2", (out, out), bias=True)

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector, which takes the features of both towers."""
        from engines.vision.projectors.high_low_mlp import HighLowMlp

        return HighLowMlp(params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return 2 (W H + H^2)."""
        return 2 * (width * out + out**2)
