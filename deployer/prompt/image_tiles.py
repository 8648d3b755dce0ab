"""From a picture to arrays; what it costs, known before it is decoded; the key under which it is cached."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployer.config.schema import VisionConfig
from deployer.prompt.images import Picture, to_rgb
from deployer.prompt.messages import Detail, ImageSize
from deployer.prompt.pixel_options import configured
from engines.spec import VisionSpec
from engines.vision.parts import ImagePlan, PixelSpec, Segment
from engines.vision.pixels.side_by_side import THREADS, side_by_side

_BAND_PIXELS = 1 << 19  # of one digest of several; a constant, since keys follow from it


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureTimes:
    """Seconds that one picture took before the engine; when is in time.perf_counter() of this machine."""

    fetch_begun_s: float
    fetch_s: float  # from its URL, file or data to bytes
    decode_begun_s: float
    decode_s: float  # to RGB pixels
    cut_s: float  # resized, cut, and its key


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedImage:
    """One picture as the engine takes it; tokens [start, start + num_tokens) of the prompt are its own."""

    key: bytes  # 16-byte digest of the RGB picture, its size, every preprocessing option and `shared`
    start: int
    num_tokens: int
    rows: tuple[tuple[int, int], ...]  # which of its tokens are image rows: (offset, count)
    arrays: tuple[NDArray[np.uint8], ...]
    plan: ImagePlan
    shared: tuple[int, ...]  # numbers that all pictures of the prompt have in common
    notes: tuple[str, ...]  # what a log should say, e.g. that an animation was cut to its first frame
    times: PictureTimes


class ImageTiles:
    """The preprocessing of one deployment."""

    def __init__(self, vision: VisionSpec, config: VisionConfig) -> None:
        """Take the checkpoint's preprocessing with what `vision.*` overrides. Raises ConfigError."""
        self._pixels = configured(vision.pixels, config)
        self._assembly = vision.assembly

    def plan(self, picture: Picture | ImageSize, detail: Detail, *, num_images: int = 1) -> ImagePlan:
        """Return what becomes of the picture in a prompt with so many. Raises RequestError."""
        return self._spec(detail).plan(picture.width, picture.height, num_images=num_images)

    def shapes(self, plan: ImagePlan, detail: Detail) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the arrays that a plan gives."""
        return self._spec(detail).shapes(plan)

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return what the picture puts into the prompt: stretches of rows, texts between them."""
        return self._assembly.segments(plan)

    def shared(self, plans: Sequence[ImagePlan]) -> tuple[int, ...]:
        """Return what all pictures of a prompt have in common."""
        return self._assembly.shared(plans)

    def prepare(
        self,
        picture: Picture,
        detail: Detail,
        *,
        plan: ImagePlan,
        shared: tuple[int, ...],
        start: int,
        rows: tuple[tuple[int, int], ...],
        num_tokens: int,
    ) -> PreparedImage:
        """Decode and cut the picture, whose tokens begin at `start`. Raises ImageError."""
        spec = self._spec(detail)
        begun_s = time.perf_counter()
        rgb = to_rgb(picture)
        decoded_s = time.perf_counter()
        how = f"{spec!r} {plan!r} {self._assembly!r} {shared!r}"
        with ThreadPoolExecutor(1) as thread:  # starts with the first work
            key = thread.submit(_key, rgb, how)
            arrays = spec.arrays(rgb, plan)
        return PreparedImage(
            key=key.result(),
            start=start,
            num_tokens=num_tokens,
            rows=rows,
            arrays=arrays,
            plan=plan,
            shared=shared,
            notes=picture.notes,
            times=PictureTimes(
                fetch_begun_s=picture.fetch_begun_s,
                fetch_s=picture.fetch_s,
                decode_begun_s=begun_s,
                decode_s=decoded_s - begun_s,
                cut_s=time.perf_counter() - decoded_s,
            ),
        )

    def _spec(self, detail: Detail) -> PixelSpec:
        return self._pixels.low_detail() if detail == "low" else self._pixels


def _key(rgb: Image.Image, how: str) -> bytes:
    """Digest the pixels a band of rows at a time: a copy of all would double a large picture's memory."""
    rows = max(1, _BAND_PIXELS // rgb.width)
    bands = [(0, top, rgb.width, min(top + rows, rgb.height)) for top in range(0, rgb.height, rows)]
    digest = hashlib.blake2b(f"{rgb.width}x{rgb.height} {how}".encode(), digest_size=16)
    for start in range(0, len(bands), THREADS):
        calls = [partial(_band_digest, rgb, box) for box in bands[start : start + THREADS]]
        for part in side_by_side(calls, pixels=rgb.width * rgb.height):
            digest.update(part)
    return digest.digest()


def _band_digest(rgb: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    # SHA-256: processors have instructions for it. On the host of an H200 three times as fast as BLAKE2.
    return hashlib.sha256(rgb.crop(box).tobytes()).digest()
