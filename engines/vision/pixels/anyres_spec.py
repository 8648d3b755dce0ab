"""Any resolution: a grid of square tiles out of a list, and before them the whole picture. Torch-free.

Source: haotian-liu/LLaVA, llava/mm_utils.py (select_best_resolution, resize_and_pad_image).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines.vision.parts import ImagePlan, PixelSpec
from engines.vision.pixels.fixed_square_spec import check_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyresSpec(PixelSpec):
    """Preprocessing of LLaVA-1.6."""

    options: ClassVar[tuple[str, ...]] = ("max_tiles",)

    kind: Literal["anyres"] = "anyres"
    image: int  # pixels a side of a tile
    canvases: tuple[tuple[int, int], ...]  # (width, height) in pixels that a picture may be fitted into
    max_tiles: int  # of a picture, the whole one not counted; canvases of more are left out. 0: no tiles
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return the grid, (0, 0) where there are no tiles. Raises RequestError for a line of a picture."""
        check_shape(width, height)
        canvases = self._allowed()
        if not canvases:
            return ImagePlan(width=width, height=height, grid=(0, 0), num_tiles=1)
        canvas = best_canvas(width, height, canvases)
        columns, rows = (pixels // self.image for pixels in canvas)
        return ImagePlan(width=width, height=height, grid=(columns, rows), num_tiles=columns * rows + 1)

    def largest(self) -> ImagePlan:
        """Return the plan of a picture that fills the canvas of most tiles, of equals that of most lines."""
        canvases = self._allowed() or ((self.image, self.image),)
        return self.plan(*max(canvases, key=lambda canvas: (canvas[0] * canvas[1], canvas[1])))

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return one array of tiles."""
        return ((plan.num_tiles, self.image, self.image, 3),)

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the whole picture squashed into a tile, then the tiles row by row."""
        from engines.vision.pixels.anyres import anyres

        return (anyres(rgb, plan, self.image),)

    def low_detail(self) -> "AnyresSpec":
        """Return the whole picture alone."""
        return replace(self, max_tiles=0)

    def medium_detail(self) -> "AnyresSpec":
        """Return half the tiles, or the whole picture alone where no such grid is known."""
        halved = replace(self, max_tiles=self.max_tiles // 2)
        return self.low_detail() if halved.faults() else halved

    def cheaper(self) -> Iterator[dict[str, Any]]:
        """Yield half the tiles."""
        halved = replace(self, max_tiles=self.max_tiles // 2)
        if not halved.faults():
            yield {"vision.max_tiles": halved.max_tiles}

    def faults(self) -> list[str]:
        """Return whether no canvas is left."""
        fewest = min(self._num_tiles(canvas) for canvas in self.canvases)
        if self.max_tiles >= fewest:
            return []
        return [f"vision.max_tiles={self.max_tiles}: must be at least {fewest}, the smallest grid it knows"]

    def _num_tiles(self, canvas: tuple[int, int]) -> int:
        return canvas[0] // self.image * (canvas[1] // self.image)

    def _allowed(self) -> tuple[tuple[int, int], ...]:
        return tuple(canvas for canvas in self.canvases if self._num_tiles(canvas) <= self.max_tiles)


def best_canvas(width: int, height: int, canvases: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Return the canvas that shows most pixels of the picture; of equals the one that wastes least."""

    def shown_and_wasted(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[0] / width, canvas[1] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - canvas[0] * canvas[1]

    return max(canvases, key=shown_and_wasted)


def fitted_size(width: int, height: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the picture inside a canvas, its shape kept."""
    across, down = canvas[0] / width, canvas[1] / height
    if across < down:
        return canvas[0], min(ceil(height * across), canvas[1])
    return min(ceil(width * down), canvas[0]), canvas[1]
