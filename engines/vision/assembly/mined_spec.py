"""Patches that look things up in the map of a second tower: Mini-Gemini. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment
from engines.weights.parameter import Parameter, linear, norm

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class MinedSpec(AssemblySpec):
    """The picture comes at the second tower's resolution; what the first sees is made of it on the device."""

    kind: Literal["mined"] = "mined"
    image: int  # pixels a side of what the first tower sees
    side: int  # patches a side of that
    grid: int  # tiles a side that the first tower sees
    whole: bool  # and the whole picture, whose rows come first
    map_width: int  # channels of the second tower's map

    @property
    def num_views(self) -> int:
        """What the first tower encodes of a picture."""
        return self.grid**2 + self.whole

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        return (self.num_views * self.side**2,)

    def tiles_a_pass(self, max_tiles: int) -> int:
        """Return the views of a picture: pictures go one by one, their maps are large."""
        return self.num_views

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield a norm and a linear layer each for queries, keys and values."""
        for name, wide in (("query", width), ("key", self.map_width), ("value", self.map_width)):
            yield from norm(f"mining.{name}_norm", wide, bias=True)
            yield from linear(f"mining.{name}", (width, wide), bias=True)

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.mined import Mined

        return Mined(self, spec, params, ops=ops)
