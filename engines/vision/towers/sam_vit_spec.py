"""SAM's image encoder with DeepSeek-VL's way down to few tokens: sizes and parameters. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.vision.towers.vit_costs import vit_flops
from engines.weights.parameter import Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class SamVitSpec(TowerSpec):
    """Attention in windows, over the whole picture in some layers; then a neck and two halvings."""

    kind: Literal["sam_vit"] = "sam_vit"
    image: int  # pixels a side
    patch: int
    width: int  # of the layers
    hidden: int  # of the features: the channels behind the second halving
    num_layers: int
    num_heads: int
    ffn: int
    norm_eps: float
    window: int  # patches a side
    global_layers: tuple[int, ...]  # the first one's output takes a second path
    neck: int  # channels
    halved: int  # channels behind the first halving
    resized: int  # cells a side that halving starts from; features have a quarter of it

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image // self.patch

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters."""
        width, head_dim = self.width, self.width // self.num_heads
        yield Parameter(name=f"{name}.patch.weight", shape=(width, 3, self.patch, self.patch))
        yield Parameter(name=f"{name}.patch.bias", shape=(width,), role="bias")
        yield Parameter(name=f"{name}.positions", shape=(self.grid, self.grid, width), role="embedding")
        for i in range(self.num_layers):
            layer = f"{name}.layers.{i}"
            reach = 2 * (self.grid if i in self.global_layers else self.window) - 1
            yield from norm(f"{layer}.norm1", width, bias=True)
            yield from linear(f"{layer}.qkv", (3 * width, width), bias=True)
            yield Parameter(name=f"{layer}.relative_y", shape=(reach, head_dim), role="embedding")
            yield Parameter(name=f"{layer}.relative_x", shape=(reach, head_dim), role="embedding")
            yield from linear(f"{layer}.o", (width, width), bias=True)
            yield from norm(f"{layer}.norm2", width, bias=True)
            yield from linear(f"{layer}.fc1", (self.ffn, width), bias=True)
            yield from linear(f"{layer}.fc2", (width, self.ffn), bias=True)
        for neck in ("neck", "first_neck"):
            yield Parameter(name=f"{name}.{neck}.conv1.weight", shape=(self.neck, width, 1, 1))
            yield from norm(f"{name}.{neck}.norm1", self.neck, bias=True)
            yield Parameter(name=f"{name}.{neck}.conv2.weight", shape=(self.neck, self.neck, 3, 3))
            yield from norm(f"{name}.{neck}.norm2", self.neck, bias=True)
        yield Parameter(name=f"{name}.half1.weight", shape=(self.halved, self.neck, 3, 3))
        yield Parameter(name=f"{name}.half2.weight", shape=(self.hidden, self.halved, 3, 3))
        yield Parameter(name=f"{name}.first_scale", shape=(1,), role="scale")

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.sam_vit import SamVit

        return SamVit(self, params, name=name, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return its patches."""
        return self.grid**2

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of layers, patches, necks and halvings; of attention, padded windows included."""
        tokens, windows = self.grid**2, -(-self.grid // self.window)
        layers, _ = vit_flops(tokens=tokens, layers=self.num_layers, hidden=self.width, ffn=self.ffn)
        patches = 2 * tokens * 3 * self.patch**2 * self.width
        necks = 2 * 2 * tokens * (self.width * self.neck + 9 * self.neck**2)
        cells = self.resized**2
        halvings = (
            2 * 2 * 9 * (cells // 4 * self.neck * self.halved + cells // 16 * self.halved * self.hidden)
        )
        num_global = len(self.global_layers)
        windowed = (self.num_layers - num_global) * 4 * windows**2 * self.window**4 * self.width
        return layers + patches + necks + halvings, windowed + num_global * 4 * tokens**2 * self.width

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return L (2 D + 2 F), as for a plain transformer."""
        return self.grid**2 * 2 * (self.width + self.ffn)
