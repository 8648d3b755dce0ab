"""The whole picture, then its tiles put together to one map without what was only padding. Torch-free.

Sources: haotian-liu/LLaVA, llava/model/llava_arch.py (prepare_inputs_labels_for_multimodal, unpad_image);
huggingface/transformers, llava_next/modeling_llava_next.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment
from engines.weights.parameter import Parameter

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyresRowsSpec(AssemblySpec):
    """Rows of LLaVA-1.6."""

    kind: Literal["anyres"] = "anyres"
    side: int  # rows a side of a tile
    # unpad: the map's rows line by line, a newline row behind each line. flat: all rows tile by tile.
    merge: Literal["unpad", "flat"]
    # How the picture's share of the map is rounded: transformers first rounds to seven digits.
    rounding: Literal["down", "seven_digits"]

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return one stretch of rows."""
        whole = self.side**2
        if self.merge == "flat":
            return (plan.num_tiles * whole,)
        if plan.num_tiles == 1:
            return (whole + 1,)
        columns, rows = self.kept(plan)
        return (whole + len(rows) * (len(columns) + 1),)

    def kept(self, plan: ImagePlan) -> tuple[range, range]:
        """Return the columns and rows of the map that show the picture rather than padding."""
        columns, rows = (tiles * self.side for tiles in plan.grid)
        if plan.width / plan.height > columns / rows:
            return range(columns), self._middle(rows, plan.height * (columns / plan.width))
        return self._middle(columns, plan.width * (rows / plan.height)), range(rows)

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield the newline row."""
        if self.merge == "unpad":
            yield Parameter(name="newline", shape=(out,), role="embedding")

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.anyres import Anyres

        return Anyres(self, spec, params, ops=ops)

    def _middle(self, length: int, shown: float) -> range:
        padding = (length - int(round(shown, 7) if self.rounding == "seven_digits" else shown)) // 2
        return range(padding, length - padding)
