"""The vision transformers of CLIP, SigLIP and their kin: sizes and parameters. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.vision.towers.vit_costs import vit_flops
from engines.weights.parameter import Block, Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipVitSpec(TowerSpec):
    """A pre-norm vision transformer with a position table; the defaults are those of CLIP."""

    kind: Literal["clip_vit"] = "clip_vit"
    image: int  # pixels a side for which the position table was made
    tile: int | None = None  # pixels a side of what it is given; None: image
    patch: int  # pixels a side
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm_eps: float
    activation: Activation = "quick_gelu"
    class_token: bool = True  # before the patches; it is not handed on unless `keep_class_token`
    keep_class_token: bool = False
    patch_bias: bool = False
    pre_norm: bool = True  # a norm between embeddings and layers
    post_norm: bool = False  # a norm behind the last layer
    select_layer: int  # hidden state that is handed on, an index into [embeddings, layer 1, ..., layer n]

    @property
    def depth(self) -> int:
        """Layers that run."""
        return range(self.num_layers + 1)[self.select_layer]

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters; those of layers that do not run are in the checkpoint all the same."""
        hidden, head_dim = self.hidden, self.hidden // self.num_heads
        num_positions = (self.image // self.patch) ** 2 + self.class_token
        blocks = tuple(Block(name=part, num_units=self.num_heads, unit_rows=head_dim) for part in "qkv")
        if self.class_token:
            yield Parameter(name=f"{name}.class_token", shape=(hidden,), role="embedding")
        yield Parameter(name=f"{name}.positions", shape=(num_positions, hidden), role="embedding")
        yield Parameter(name=f"{name}.patch.weight", shape=(hidden, 3, self.patch, self.patch))
        if self.patch_bias:
            yield Parameter(name=f"{name}.patch.bias", shape=(hidden,), role="bias")
        if self.pre_norm:
            yield from norm(f"{name}.pre_norm", hidden, bias=True)
        for i in range(self.num_layers):
            layer = f"{name}.layers.{i}"
            yield from norm(f"{layer}.norm1", hidden, bias=True)
            yield from linear(f"{layer}.qkv", (3 * hidden, hidden), bias=True, blocks=blocks)
            yield from linear(f"{layer}.o", (hidden, hidden), bias=True)
            yield from norm(f"{layer}.norm2", hidden, bias=True)
            yield from linear(f"{layer}.fc1", (self.ffn, hidden), bias=True)
            yield from linear(f"{layer}.fc2", (hidden, self.ffn), bias=True)
        if self.post_norm:
            yield from norm(f"{name}.post_norm", hidden, bias=True)

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.clip_vit import ClipVit

        return ClipVit(self, params, name=name, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return patches and the class token."""
        return ((self.tile or self.image) // self.patch) ** 2 + self.class_token

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of layers and patch embedding, of attention."""
        tokens = self.tile_tokens(plan)
        linear_flops, attention_flops = vit_flops(
            tokens=tokens, layers=self.depth, hidden=self.hidden, ffn=self.ffn
        )
        patches = 2 * (tokens - self.class_token) * 3 * self.patch**2 * self.hidden
        return linear_flops + patches, attention_flops

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return L (2 D + 2 F): two residuals, the FFN's hidden rows before and after GELU."""
        return self.tile_tokens(plan) * 2 * (self.hidden + self.ffn)
