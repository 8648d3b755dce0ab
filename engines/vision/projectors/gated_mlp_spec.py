"""A gated FFN behind a linear layer and mostly a 2 x 2 convolution: CogVLM, GLM-4V. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ProjectorSpec
from engines.weights.parameter import Block, Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedMlpSpec(ProjectorSpec):
    """No linear layer of it has a bias; the convolution has one."""

    kind: Literal["gated_mlp"] = "gated_mlp"
    ffn: int
    # What the convolution makes of each square of four patches: as many numbers as a patch or a row has.
    merged: Literal["patch", "row"] | None = None  # None: no convolution

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield its parameters in the order of a forward pass."""
        inner = self._inner(width, out)
        if self.merged is not None:
            yield Parameter(name="projector.conv.weight", shape=(inner, width, 2, 2))
            yield Parameter(name="projector.conv.bias", shape=(inner,), role="bias")
        yield from linear("projector.fc", (out, inner), bias=False)
        yield from norm("projector.norm", out, bias=True)
        halves = tuple(Block(name=half, num_units=self.ffn, unit_rows=1) for half in ("gate", "up"))
        yield from linear("projector.gate_up", (2 * self.ffn, out), bias=False, blocks=halves)
        yield from linear("projector.down", (out, self.ffn), bias=False)

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector."""
        from engines.vision.projectors.gated_mlp import GatedMlp

        return GatedMlp(self, params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return operations of the convolution, if there is one, the linear layer and the FFN."""
        inner = self._inner(width, out)
        convolution = 0 if self.merged is None else 4 * width * inner
        return 2 * (convolution + inner * out + 3 * out * self.ffn)

    def _inner(self, width: int, out: int) -> int:
        return out if self.merged == "row" else width
