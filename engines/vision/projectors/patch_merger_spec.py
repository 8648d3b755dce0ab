"""Patch merger: norm, then the patches of a cell in one row through an MLP. Torch-free."""

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
class PatchMergerSpec(ProjectorSpec):
    """The merger of Qwen2-VL (layer norm) and Qwen2.5-VL (RMS norm)."""

    kind: Literal["patch_merger"] = "patch_merger"
    merge: int  # patches a side of a cell
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the norm over a patch and both linear layers over a cell."""
        wide = width * self.merge**2
        yield from norm("projector.norm", width, bias=self.norm == "layer_norm")
        yield from linear("projector.fc1", (wide, wide), bias=True)
        yield from linear("projector.fc2", (out, wide), bias=True)

    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector."""
        from engines.vision.projectors.patch_merger import PatchMerger

        return PatchMerger(self, params, ops=ops)

    def row_flops(self, width: int, out: int) -> int:
        """Return 2 (K^2 + K H) for cells of K numbers."""
        wide = width * self.merge**2
        return 2 * (wide**2 + wide * out)
