"""EVA2-CLIP as CogVLM and GLM-4V use it: sizes and parameters. Torch-free."""

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
class EvaClipSpec(TowerSpec):
    """A vision transformer that norms what a block adds, not what it reads."""

    kind: Literal["eva_clip"] = "eva_clip"
    image: int  # pixels a side
    patch: int
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm_eps: float

    @property
    def side(self) -> int:
        """Patches a side."""
        return self.image // self.patch

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters."""
        hidden = self.hidden
        yield Parameter(name=f"{name}.class_token", shape=(1, hidden), role="embedding")
        yield Parameter(name=f"{name}.positions", shape=(self.side**2 + 1, hidden), role="embedding")
        yield Parameter(name=f"{name}.patch.weight", shape=(hidden, 3, self.patch, self.patch))
        yield Parameter(name=f"{name}.patch.bias", shape=(hidden,), role="bias")
        for i in range(self.num_layers):
            layer = f"{name}.layers.{i}"
            yield from linear(f"{layer}.qkv", (3 * hidden, hidden), bias=True)
            yield from linear(f"{layer}.o", (hidden, hidden), bias=True)
            yield from norm(f"{layer}.norm1", hidden, bias=True)
            yield from linear(f"{layer}.fc1", (self.ffn, hidden), bias=True)
            yield from linear(f"{layer}.fc2", (hidden, self.ffn), bias=True)
            yield from norm(f"{layer}.norm2", hidden, bias=True)

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.eva_clip import EvaClip

        return EvaClip(self, params, name=name, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return patches and the class token."""
        return self.side**2 + 1

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of layers and patch embedding, of attention."""
        linear_flops, attention_flops = vit_flops(
            tokens=self.tile_tokens(plan), layers=self.num_layers, hidden=self.hidden, ffn=self.ffn
        )
        return linear_flops + 2 * self.side**2 * 3 * self.patch**2 * self.hidden, attention_flops

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return L (2 D + 2 F): two residuals, the FFN's hidden rows before and after GELU."""
        return self.tile_tokens(plan) * 2 * (self.hidden + self.ffn)
