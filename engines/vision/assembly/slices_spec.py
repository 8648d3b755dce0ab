"""A tagged block of rows for the whole picture and one for each slice: MiniCPM-V. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.vision.parts import AssemblySpec, ImagePlan, Segment
from engines.vision.pixels.slice_sizes import slice_size, source_size

if TYPE_CHECKING:
    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec
    from engines.vision.parts import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicesRowsSpec(AssemblySpec):
    """Tagged blocks of equally many rows, slices in lines as on their grid."""

    kind: Literal["slices"] = "slices"
    rows_per_tile: int
    side: int  # of the pixels, which say how many patches a block has
    patch: int
    table_side: int  # rows of the position table a side
    together: bool  # blocks of a prompt are padded to the largest of them, and see the padding

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return tags and rows; each text is one token."""
        block: tuple[Segment, ...] = ("<image>", self.rows_per_tile, "</image>")
        if plan.num_tiles == 1:
            return block
        columns, rows = plan.grid
        line = block * columns
        return (*block, "<slice>", *line, *(("\n", *line) * (rows - 1)), "</slice>")

    def shared(self, plans: Sequence[ImagePlan]) -> tuple[int, ...]:
        """Return the patches of the prompt's largest block, to which upstream pads all others."""
        return (max(map(self._most_patches, plans)),) if self.together and plans else ()

    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return the encoder."""
        from engines.vision.assembly.slices import SlicesRows

        return SlicesRows(self, spec, params, ops=ops)

    def _most_patches(self, plan: ImagePlan) -> int:
        sizes = [source_size(plan, side=self.side, patch=self.patch)]
        if plan.num_tiles > 1:
            sizes.append(slice_size(plan, side=self.side, patch=self.patch))
        return max(width * height for width, height in sizes) // self.patch**2
