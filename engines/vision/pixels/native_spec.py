"""Native resolution: a picture keeps its size, rounded to whole cells of patches, within limits of its area.

Source: transformers, models/qwen2_vl, smart_resize.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines.errors import RequestError
from engines.vision.parts import ImagePlan, PixelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

MAX_ASPECT = 200
LOW_DETAIL_CELLS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeSpec(PixelSpec):
    """Preprocessing of Qwen2-VL and Qwen2.5-VL; a plan's grid counts cells."""

    options: ClassVar[tuple[str, ...]] = ("min_pixels", "max_pixels")

    kind: Literal["native"] = "native"
    cell: int  # pixels a side of what becomes one row: patch * merge
    step_frames: int  # frames of a video that one step joins
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return the grid of cells. Raises RequestError for a picture that is far too long."""
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise RequestError(
                f"image of {width}x{height} pixels: the longer side must be at most {MAX_ASPECT} times the "
                "shorter; cut it into parts",
                code="invalid_image",
            )
        columns, rows = self._rounded(width, height)
        return ImagePlan(width=width, height=height, grid=(columns, rows), num_tiles=1)

    def largest(self) -> ImagePlan:
        """Return the plan of most cells; of equals the one nearest to a square.

        The longest picture that is taken keeps one row of cells, which are more than `max_pixels` has where
        that is small.
        """
        cells = self.max_pixels // self.cell**2

        def columns(rows: int) -> int:
            return min(cells // rows, MAX_ASPECT * rows)

        rows = max(range(math.isqrt(cells), 0, -1), key=lambda rows: rows * columns(rows))
        filled = self.plan(columns(rows) * self.cell, rows * self.cell)
        longest = self.plan(MAX_ASPECT * self.max_pixels, self.max_pixels)
        return max(filled, longest, key=lambda plan: plan.grid[0] * plan.grid[1])

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return the resized picture; of a video all frames, those of a step behind each other."""
        size = (plan.grid[1] * self.cell, plan.grid[0] * self.cell, 3)
        return ((self.step_frames * len(plan.times), *size) if plan.times else size,)

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the resized picture, [height, width, 3]."""
        from engines.vision.pixels.resize import bicubic

        columns, rows = plan.grid
        return (bicubic(rgb, columns * self.cell, rows * self.cell),)

    def low_detail(self) -> "NativeSpec":
        """Return at most 256 rows a picture."""
        limit = max(self.min_pixels, LOW_DETAIL_CELLS * self.cell**2)
        return replace(self, max_pixels=min(self.max_pixels, limit))

    def medium_detail(self) -> "NativeSpec":
        """Return half the area, though never less than little detail has."""
        return replace(self, max_pixels=max(self.low_detail().max_pixels, self.max_pixels // 2))

    def cheaper(self) -> Iterator[dict[str, Any]]:
        """Yield a quarter of the area."""
        if self.max_pixels // 4 >= self.min_pixels:
            yield {"vision.max_pixels": self.max_pixels // 4}

    def faults(self) -> list[str]:
        """Return whether the limits are the wrong way round, or leave no cell."""
        if self.max_pixels < self.cell**2:
            return [f"vision.max_pixels={self.max_pixels}: must hold one cell, {self.cell**2} pixels"]
        if self.min_pixels > self.max_pixels:
            return [
                f"vision.min_pixels={self.min_pixels}: must not exceed vision.max_pixels={self.max_pixels}"
            ]
        return []

    def _rounded(self, width: int, height: int) -> tuple[int, int]:
        """Return columns and rows of cells; halves round to even, as upstream's do."""
        columns, rows = round(width / self.cell), round(height / self.cell)
        area = columns * rows * self.cell**2
        if area > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            columns = max(1, math.floor(width / shrink / self.cell))
            rows = max(1, math.floor(height / shrink / self.cell))
        elif area < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            columns, rows = math.ceil(width * grow / self.cell), math.ceil(height * grow / self.cell)
        return columns, rows
