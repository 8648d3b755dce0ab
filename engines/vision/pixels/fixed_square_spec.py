"""One square picture of a fixed size, whatever is sent. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.errors import RequestError
from engines.vision.parts import ImagePlan, PixelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# A square around a thin line would not fit into memory.
MOST_STRETCHED = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedSquareSpec(PixelSpec):
    """Preprocessing of the models that look at a picture once."""

    kind: Literal["fixed_square"] = "fixed_square"
    image: int  # pixels a side
    # pad: a square around the picture, then resized. fit: the longer side resized, then a square around it.
    # crop: the shorter side resized, then the middle. squash: both sides resized.
    mode: Literal["pad", "fit", "crop", "squash"]
    background: tuple[int, int, int] = (0, 0, 0)  # of pad and fit
    views: int = 1  # tiles that the first tower encodes of it, where they are cut on the device
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return one picture. Raises RequestError for a line of a picture."""
        check_shape(width, height)
        return ImagePlan(width=width, height=height, grid=(1, 1), num_tiles=self.views)

    def largest(self) -> ImagePlan:
        """Return the plan of any picture."""
        return self.plan(self.image, self.image)

    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return one array of one picture."""
        return ((1, self.image, self.image, 3),)

    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the square."""
        from engines.vision.pixels.fixed_square import fixed_square

        return (fixed_square(rgb, self)[None],)


def check_shape(width: int, height: int) -> None:
    """Raise RequestError for a picture that is hundreds of times as long as it is wide."""
    if max(width, height) > MOST_STRETCHED * min(width, height):
        raise RequestError(
            f"a picture of {width}x{height} pixels: its longer side must be at most {MOST_STRETCHED} times "
            "the shorter; cut it into pieces",
            code="image_too_long",
        )
