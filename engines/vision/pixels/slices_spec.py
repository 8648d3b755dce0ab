"""A picture as a whole and in slices of its own aspect ratio: MiniCPM-V. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines.vision.parts import ImagePlan, PixelSpec
from engines.vision.pixels.fixed_square_spec import check_shape
from engines.vision.pixels.slice_sizes import choose_slices, slice_size, source_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicesSpec(PixelSpec):
    """Blocks of about the same number of pixels, none of them square; the whole picture first."""

    options: ClassVar[tuple[str, ...]] = ("max_tiles",)

    kind: Literal["slices"] = "slices"
    side: int  # a block has about side^2 pixels
    patch: int  # sides of a block are multiples of it
    max_tiles: int  # slices at most, without the whole picture; 1: it is never sliced
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return the grid of slices, and how many blocks there are. Raises RequestError for a line."""
        check_shape(width, height)
        grid = choose_slices(width, height, side=self.side, max_slices=self.max_tiles)
        columns, rows = grid or (1, 1)
        return ImagePlan(
            width=width, height=height, grid=(columns, rows), num_tiles=columns * rows + 1 if grid else 1
        )

    def largest(self) -> ImagePlan:
        """Return the plan of as many slices as there may be, below each other."""
        return self.plan(self.side, self.side * self.max_tiles)

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return one block, and the slices if there are any."""
        width, height = source_size(plan, side=self.side, patch=self.patch)
        if plan.num_tiles == 1:
            return ((1, height, width, 3),)
        across, down = slice_size(plan, side=self.side, patch=self.patch)
        return ((1, height, width, 3), (plan.num_tiles - 1, down, across, 3))

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the whole picture, and the slices row by row."""
        from engines.vision.pixels.slices import slices

        return slices(rgb, plan, self)

    def low_detail(self) -> "SlicesSpec":
        """Return the whole picture alone."""
        return replace(self, max_tiles=1)

    def medium_detail(self) -> "SlicesSpec":
        """Return half the slices and the whole picture."""
        return replace(self, max_tiles=max(1, self.max_tiles // 2))

    def cheaper(self) -> Iterator[dict[str, Any]]:
        """Yield half the slices."""
        if self.max_tiles > 1:
            yield {"vision.max_tiles": self.max_tiles // 2}
