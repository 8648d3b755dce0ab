"""Dynamic tiles: a grid of square tiles of about the picture's aspect ratio, and a thumbnail."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines.vision.parts import Cut, ImagePlan, PixelSpec
from engines.vision.pixels.tile_grid import choose_grid, has_thumbnail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicTilesSpec(PixelSpec):
    """Preprocessing of InternVL 1.5 and later."""

    options: ClassVar[tuple[str, ...]] = ("min_tiles", "max_tiles", "thumbnail")

    kind: Literal["dynamic_tiles"] = "dynamic_tiles"
    image: int  # pixels a side of a tile
    min_tiles: int
    max_tiles: int
    thumbnail: bool  # the whole picture as one more tile where there are several
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return grid and tiles."""
        grid = choose_grid(width, height, self)
        cut = grid[0] * grid[1]
        return ImagePlan(width=width, height=height, grid=grid, num_tiles=cut + has_thumbnail(cut, self))

    def largest(self) -> ImagePlan:
        """Return the plan of `max_tiles` tiles beside each other."""
        return self.plan(self.image * self.max_tiles, self.image)

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return one array of tiles."""
        return ((plan.num_tiles, self.image, self.image, 3),)

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the tiles, the thumbnail last."""
        from engines.vision.pixels.dynamic_tiles import dynamic_tiles

        return (dynamic_tiles(rgb, self),)

    def cuts(self, plan: ImagePlan) -> tuple[Cut, ...]:
        """Return the grid and, where the plan counts one tile more, the thumbnail."""
        (columns, rows), side = plan.grid, self.image
        grid = Cut(width=columns * side, height=rows * side, side=side, filter="bicubic")
        thumbnail = Cut(width=side, height=side, side=side, filter="bicubic")
        return (grid, thumbnail) if plan.num_tiles > columns * rows else (grid,)

    def low_detail(self) -> "DynamicTilesSpec":
        """Return one tile a picture."""
        return replace(self, min_tiles=1, max_tiles=1)

    def medium_detail(self) -> "DynamicTilesSpec":
        """Return half the tiles, though never fewer than `min_tiles`."""
        return replace(self, max_tiles=max(self.min_tiles, self.max_tiles // 2))

    def cheaper(self) -> Iterator[dict[str, Any]]:
        """Yield half the tiles."""
        if self.max_tiles // 2 >= self.min_tiles:
            yield {"vision.max_tiles": self.max_tiles // 2}

    def faults(self) -> list[str]:
        """Return whether more tiles are the least than are the most."""
        if self.min_tiles <= self.max_tiles:
            return []
        return [f"vision.min_tiles={self.min_tiles}: must not exceed vision.max_tiles={self.max_tiles}"]
