"""A picture, a frame or a whole video, decoded and cut: alone, and in its place of a prompt."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deployer.prompt.picture_key import KeyOf
from deployer.prompt.planned import PlannedImage
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureTimes:
    """Seconds that one picture took before the engine; when is in time.perf_counter() of this machine."""

    fetch_begun_s: float
    fetch_s: float  # from its URL, file or data to bytes
    decode_begun_s: float
    decode_s: float  # to RGB pixels
    cut_s: float  # resized and cut


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CutPicture:
    """What becomes of one picture, wherever it stands."""

    key_of: KeyOf
    arrays: tuple[NDArray[np.uint8], ...]  # where it is not cut: the picture itself, [height, width, 4]
    is_cut: bool
    times: PictureTimes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedImage:
    """One picture as the engine takes it; tokens [start, start + num_tokens) of the prompt are its own."""

    cut: CutPicture
    name: str  # as messages call it: "image 1"; of a video's frames "video 1"
    start: int
    num_tokens: int
    rows: tuple[tuple[int, int], ...]  # which of its tokens are image rows: (offset, count)
    plan: ImagePlan
    shared: tuple[int, ...]  # numbers that all pictures of the prompt have in common
    notes: tuple[str, ...]  # what a log should say, e.g. that an animation was cut to its first frame

    @classmethod
    def of(
        cls, image: PlannedImage, cut: CutPicture, *, shared: tuple[int, ...], notes: tuple[str, ...]
    ) -> Self:
        """Return a planned picture once it is cut."""
        return cls(
            cut=cut,
            name=image.name,
            start=image.start,
            num_tokens=len(image.slot.token_ids),
            rows=image.slot.rows,
            plan=image.slot.plan,
            shared=shared,
            notes=notes,
        )

    @property
    def key(self) -> bytes:
        """16-byte digest of the RGB picture, its size, every preprocessing option and `shared`."""
        return self.cut.key_of()

    @property
    def arrays(self) -> tuple[NDArray[np.uint8], ...]:
        """Its tiles, or where it is not cut the picture itself, [height, width, 4]."""
        return self.cut.arrays

    @property
    def is_cut(self) -> bool:
        """Whether it is resized and cut already; else the engine does it."""
        return self.cut.is_cut

    @property
    def times(self) -> PictureTimes:
        """What it took."""
        return self.cut.times
