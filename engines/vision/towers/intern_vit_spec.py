"""InternViT, 300M and 6B: sizes and parameters. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.vision.towers.vit_costs import vit_flops
from engines.weights.parameter import Parameter, linear, norm, qkv_blocks

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class InternVitSpec(TowerSpec):
    """A vision transformer over square tiles."""

    kind: Literal["intern_vit"] = "intern_vit"
    image: int  # pixels a side for which the position table was made
    tile: int | None = None  # pixels a side of what it is given; None: image
    patch: int  # pixels a side
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float
    qkv_bias: bool
    qk_norm: bool
    select_layer: int  # hidden state that is handed on, an index into [embeddings, layer 1, ..., layer n]

    @property
    def depth(self) -> int:
        """Layers that run."""
        return range(self.num_layers + 1)[self.select_layer]

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters; those of layers that do not run are in the checkpoint all the same."""
        hidden, layer_norm = self.hidden, self.norm == "layer_norm"
        num_positions = (self.image // self.patch) ** 2 + 1
        patch_shape = (hidden, 3, self.patch, self.patch)
        yield Parameter(name=f"{name}.class_token", shape=(1, 1, hidden), role="embedding")
        yield Parameter(name=f"{name}.positions", shape=(1, num_positions, hidden), role="embedding")
        yield Parameter(name=f"{name}.patch.weight", shape=patch_shape)
        yield Parameter(name=f"{name}.patch.bias", shape=(hidden,), role="bias")
        for i in range(self.num_layers):
            layer = f"{name}.layers.{i}"
            blocks = qkv_blocks(hidden)
            yield from norm(f"{layer}.norm1", hidden, bias=layer_norm)
            yield from linear(f"{layer}.qkv", (3 * hidden, hidden), bias=self.qkv_bias, blocks=blocks)
            if self.qk_norm:
                yield from norm(f"{layer}.q_norm", hidden)
                yield from norm(f"{layer}.k_norm", hidden)
            yield from linear(f"{layer}.o", (hidden, hidden), bias=True)
            yield Parameter(name=f"{layer}.scale1", shape=(hidden,), role="scale")
            yield from norm(f"{layer}.norm2", hidden, bias=layer_norm)
            yield from linear(f"{layer}.fc1", (self.ffn, hidden), bias=True)
            yield from linear(f"{layer}.fc2", (hidden, self.ffn), bias=True)
            yield Parameter(name=f"{layer}.scale2", shape=(hidden,), role="scale")

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.intern_vit import InternVit

        return InternVit(self, params, name=name, image=self.tile or self.image, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return patches and the class token."""
        return ((self.tile or self.image) // self.patch) ** 2 + 1

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of layers and patch embedding, of attention."""
        tokens = self.tile_tokens(plan)
        linear_flops, attention_flops = vit_flops(
            tokens=tokens, layers=self.depth, hidden=self.hidden, ffn=self.ffn
        )
        patches = 2 * (tokens - 1) * 3 * self.patch**2 * self.hidden
        return linear_flops + patches, attention_flops

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return L (2 D + 2 F): two residuals, the FFN's hidden rows before and after GELU."""
        return self.tile_tokens(plan) * 2 * (self.hidden + self.ffn)
