"""The tower of Qwen2-VL and Qwen2.5-VL: sizes and parameters. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import ImagePlan, TowerSpec
from engines.weights.parameter import Block, Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.vision.parts import Module


@dataclass(frozen=True, kw_only=True, slots=True)
class Qwen2VitSpec(TowerSpec):
    """A vision transformer with two-axis rotary positions over pictures of any size."""

    kind: Literal["qwen2_vit"] = "qwen2_vit"
    patch: int  # pixels a side
    frames: int  # pictures joined in one patch; a still one is repeated
    merge: int  # patches a side of a cell
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float
    hidden_act: Literal["quick_gelu", "gelu", "silu"]  # silu: a gated FFN with biases
    window: int | None = None  # cells a side that attention sees; None: the whole picture
    full_layers: tuple[int, ...] = ()  # layers that see the whole picture all the same

    @property
    def is_gated(self) -> bool:
        """Whether the FFN has a gate."""
        return self.hidden_act == "silu"

    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield patch embedding and layers."""
        hidden, layer_norm = self.hidden, self.norm == "layer_norm"
        yield Parameter(name=f"{name}.patch.weight", shape=(hidden, 3, self.frames, self.patch, self.patch))
        gate_up = tuple(Block(name=half, num_units=self.ffn, unit_rows=1) for half in ("gate", "up"))
        for i in range(self.num_layers):
            layer = f"{name}.layers.{i}"
            yield from norm(f"{layer}.norm1", hidden, bias=layer_norm)
            yield from linear(f"{layer}.qkv", (3 * hidden, hidden), bias=True)
            yield from linear(f"{layer}.o", (hidden, hidden), bias=True)
            yield from norm(f"{layer}.norm2", hidden, bias=layer_norm)
            if self.is_gated:
                yield from linear(f"{layer}.gate_up", (2 * self.ffn, hidden), bias=True, blocks=gate_up)
                yield from linear(f"{layer}.down", (hidden, self.ffn), bias=True)
            else:
                yield from linear(f"{layer}.fc1", (self.ffn, hidden), bias=True)
                yield from linear(f"{layer}.fc2", (hidden, self.ffn), bias=True)

    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower."""
        from engines.vision.towers.qwen2_vit import Qwen2Vit

        return Qwen2Vit(self, params, name, ops=ops)

    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return the patches of the picture."""
        return plan.grid[0] * plan.grid[1] * self.merge**2

    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of the picture: 2 L (4 D^2 + 2 or 3 D F) a layer; attention over what it sees."""
        tokens, hidden = self.tile_tokens(plan), self.hidden
        ffn = (3 if self.is_gated else 2) * hidden * self.ffn
        products = self.num_layers * 2 * tokens * (4 * hidden**2 + ffn)
        patches = 2 * tokens * 3 * self.frames * self.patch**2 * hidden
        seen = tokens if self.window is None else min(tokens, (self.window * self.merge) ** 2)
        full = self.num_layers if self.window is None else len(self.full_layers)
        pairs = tokens * (full * tokens + (self.num_layers - full) * seen)
        return products + patches, 4 * pairs * hidden

    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return L (2 D + 3 F): two residuals, the FFN's hidden rows with their gate and product."""
        return self.tile_tokens(plan) * (2 * self.hidden + 3 * self.ffn)
