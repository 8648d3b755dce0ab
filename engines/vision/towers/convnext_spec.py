"""ConvNeXt with the maps of all four stages side by side: sizes and parameters. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.weights.parameter import Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module

STEM = 4  # pixels a side that become one cell of the first stage


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNextSpec(TowerSpec):
    """A tower that sees the whole picture once, whatever tiles another tower sees."""

    kind: Literal["convnext"] = "convnext"
    image: int  # pixels a side
    depths: tuple[int, ...]  # blocks of each stage
    dims: tuple[int, ...]  # channels of each stage
    hidden: int  # of all stages together
    norm_eps: float

    @property
    def grid(self) -> int:
        """Cells a side of the map."""
        return self.image // STEM

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters."""
        first = self.dims[0]
        yield Parameter(name=f"{name}.stem.weight", shape=(first, 3, STEM, STEM))
        yield Parameter(name=f"{name}.stem.bias", shape=(first,), role="bias")
        yield from norm(f"{name}.stem_norm", first, bias=True)
        for i, (depth, dim) in enumerate(zip(self.depths, self.dims, strict=True)):
            stage = f"{name}.stages.{i}"
            if i > 0:
                before = self.dims[i - 1]
                yield from norm(f"{stage}.halve_norm", before, bias=True)
                yield Parameter(name=f"{stage}.halve.weight", shape=(dim, before, 2, 2))
                yield Parameter(name=f"{stage}.halve.bias", shape=(dim,), role="bias")
            for j in range(depth):
                block = f"{stage}.blocks.{j}"
                yield Parameter(name=f"{block}.depthwise.weight", shape=(dim, 1, 7, 7))
                yield Parameter(name=f"{block}.depthwise.bias", shape=(dim,), role="bias")
                yield from norm(f"{block}.norm", dim, bias=True)
                yield from linear(f"{block}.fc1", (4 * dim, dim), bias=True)
                yield from linear(f"{block}.fc2", (dim, 4 * dim), bias=True)
                yield Parameter(name=f"{block}.scale", shape=(dim,), role="scale")

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.convnext import ConvNext

        return ConvNext(self, params, name=name, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return the cells of its map that fall to one tile of the picture."""
        return self.grid**2 // plan.num_tiles

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return a tile's share of the operations; there is no attention."""
        total = 2 * self.grid**2 * 3 * STEM**2 * self.dims[0]
        for i, (depth, dim) in enumerate(zip(self.depths, self.dims, strict=True)):
            cells = (self.grid >> i) ** 2
            total += depth * 2 * cells * (49 * dim + 8 * dim**2)
            total += 2 * cells * 4 * self.dims[i - 1] * dim if i else 0
        return total // plan.num_tiles, 0

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return a tile's share of the first stage's FFN and of the maps side by side, each in and out."""
        return self.grid**2 * 2 * max(5 * self.dims[0], self.hidden) // plan.num_tiles
