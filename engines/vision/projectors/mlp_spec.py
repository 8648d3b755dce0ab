"""Linear layers with GELU between them: the projector of LLaVA and most after it. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ProjectorSpec
from engines.weights.parameter import Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class MlpSpec(ProjectorSpec):
    """From the tower's width to the decoder's in the first layer; all layers have biases."""

    kind: Literal["mlp"] = "mlp"
    depth: int = 2  # linear layers
    norms: bool = False  # a layer norm behind each linear layer
    joined: int = 1  # rows of the tower that the assembly makes one

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the layers, fc1 first."""
        for i in range(1, self.depth + 1):
            yield from linear(f"projector.fc{i}", (out, width * self.joined if i == 1 else out), bias=True)
            if self.norms:
                yield from norm(f"projector.norm{i}", out, bias=True)

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector."""
        from engines.vision.projectors.mlp import Mlp

        return Mlp(self, params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return 2 (K H + (n - 1) H^2) for rows of K joined numbers."""
        return 2 * (width * self.joined * out + (self.depth - 1) * out**2)
