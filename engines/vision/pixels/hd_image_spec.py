"""One picture scaled to whole tiles and padded with white: Phi-3-vision, XComposer2.5. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines.vision.parts import ImagePlan, PixelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class HdImageSpec(PixelSpec):
    """Preprocessing that keeps the aspect ratio; the tiles are cut on the device.

    A picture higher than wide is mirrored along its diagonal, scaled and padded as a wide one, and mirrored
    back, as upstream does it.
    """

    options: ClassVar[tuple[str, ...]] = ("max_tiles",)

    kind: Literal["hd_image"] = "hd_image"
    tile: int  # pixels a side
    max_tiles: int  # without the global view
    max_tiles_of_several: int | None = None  # where a prompt has several pictures; None: max_tiles
    may_enlarge: bool  # beyond the tiles that the picture's longer side fills by itself
    pad: Literal["around", "below"]  # where the white goes, in the wide orientation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return grid and tiles, the global view included."""
        limit = self.max_tiles
        if num_images > 1 and self.max_tiles_of_several is not None:
            limit = min(limit, self.max_tiles_of_several)
        long_side, short_side = max(width, height), min(width, height)
        ratio = long_side / short_side
        columns = max((n for n in range(1, limit + 1) if n * ceil(n / ratio) <= limit), default=1)
        if not self.may_enlarge:
            columns = min(ceil(long_side / self.tile), columns)
        rows = max(ceil(int(columns * self.tile / ratio) / self.tile), 1)
        grid = (columns, rows) if width >= height else (rows, columns)
        return ImagePlan(width=width, height=height, grid=grid, num_tiles=columns * rows + 1)

    def largest(self) -> ImagePlan:
        """Return the plan of most tiles, below each other: of so many it has the most lines of cells."""
        return self.plan(self.tile, self.tile * self.max_tiles)

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return one padded picture."""
        columns, rows = plan.grid
        return ((rows * self.tile, columns * self.tile, 3),)

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the padded picture."""
        from engines.vision.pixels.hd_image import hd_image

        return (hd_image(rgb, plan, self),)

    def low_detail(self) -> "HdImageSpec":
        """Return one tile and the global view."""
        return replace(self, max_tiles=1)

    def medium_detail(self) -> "HdImageSpec":
        """Return half the tiles and the global view."""
        return replace(self, max_tiles=max(1, self.max_tiles // 2))

    def cheaper(self) -> Iterator[dict[str, Any]]:
        """Yield half the tiles."""
        if self.max_tiles > 1:
            yield {"vision.max_tiles": self.max_tiles // 2}
