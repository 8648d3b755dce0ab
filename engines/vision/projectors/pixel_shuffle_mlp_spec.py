"""Pixel shuffle, norm and a two-layer MLP: the projector of InternVL. Torch-free."""

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
class PixelShuffleMlpSpec(ProjectorSpec):
    """Each square of neighbouring patches becomes one row."""

    kind: Literal["pixel_shuffle_mlp"] = "pixel_shuffle_mlp"
    factor: int  # patches a side of a square
    shuffle_version: Literal["v1", "v2"] = "v2"

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the norm and both linear layers."""
        wide = width * self.factor**2
        yield from norm("projector.norm", wide, bias=True)
        yield from linear("projector.fc1", (out, wide), bias=True)
        yield from linear("projector.fc2", (out, out), bias=True)

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector."""
        from engines.vision.projectors.pixel_shuffle_mlp import PixelShuffleMlp

        return PixelShuffleMlp(self, params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return 2 (K H + H^2) for rows of K joined numbers."""
        return 2 * (width * self.factor**2 * out + out**2)
