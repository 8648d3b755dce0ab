"""What a picture may become in a prompt at most, for clients that plan their prompts (`/v1/models`)."""

from dataclasses import dataclass

from engines.errors import RequestError
from engines.vision.parts import AssemblySpec, ImagePlan, PixelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureLimits:
    """The most that one picture of a deployment costs."""

    max_tiles: int  # what the tower encodes one by one, thumbnail included
    max_tokens: int  # image rows and the texts between them
    tile_tokens: int | None  # image rows of one tile; None: they follow from the picture's size


def picture_limits(pixels: PixelSpec, assembly: AssemblySpec) -> PictureLimits:
    """Return the limits of a preprocessing with what the config overrides."""
    largest = pixels.largest()
    segments = assembly.segments(largest)
    shares = {_rows(plan, assembly) / plan.num_tiles for plan in (largest, *_samples(pixels))}
    share = shares.pop() if len(shares) == 1 else None
    return PictureLimits(
        max_tiles=largest.num_tiles,
        max_tokens=sum(part if isinstance(part, int) else 1 for part in segments),
        tile_tokens=None if share is None or share % 1 else int(share),
    )


def _samples(pixels: PixelSpec) -> list[ImagePlan]:
    """Return the plans of pictures of other sizes and shapes, as far as they are taken."""
    found = []
    for width, height in ((64, 64), (200, 1000), (1000, 300)):
        try:
            found.append(pixels.plan(width, height))
        except RequestError:  # this kind takes no picture of this shape
            continue
    return found


def _rows(plan: ImagePlan, assembly: AssemblySpec) -> int:
    return sum(part for part in assembly.segments(plan) if isinstance(part, int))
