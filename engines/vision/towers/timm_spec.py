"""A tower that timm computes: which model, and the sizes that `timm_sizes.py` found for it. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.weights.parameter import Parameter

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmSpec(TowerSpec):
    """A backbone of timm up to one of its layers, without its head.

    `tensors` are the names and shapes of its state dict as far as that layer needs them, `unused` the names
    that the whole model has beside them.
    """

    kind: Literal["timm"] = "timm"
    name: str  # as `timm.create_model` takes it
    select_layer: int  # whose output is taken, unnormed; -1: the last block or stage
    image: int  # pixels a side
    grid: int  # rows a side of the map that it gives
    hidden: int
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    unused: tuple[str, ...]
    flops: int  # of one picture, outside of attention
    attention_flops: int
    widest_numbers: int  # in and out of the widest layer, of one picture

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield timm's own tensors."""
        for tensor, shape in self.tensors:
            kind = tensor.rsplit(".", 1)[-1]
            if kind == "bias":
                yield Parameter(name=f"{name}.{tensor}", shape=shape, role="bias")
            elif len(shape) == 1:
                yield Parameter(name=f"{name}.{tensor}", shape=shape, role="norm")
            else:
                yield Parameter(name=f"{name}.{tensor}", shape=shape)

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower; it runs torch's operations, not the engine's. Raises PackageError."""
        from engines.vision.towers.timm_tower import TimmTower

        return TimmTower(self, params, name=name)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return the rows of one picture."""
        return self.grid**2

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of one picture, as torch counts them."""
        return self.flops, self.attention_flops

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return what goes in and out of the widest layer."""
        return self.widest_numbers
