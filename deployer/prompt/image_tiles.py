"""From a picture to arrays; what it costs, known before it is decoded; the key under which it is cached."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployer.config.schema import VisionConfig
from deployer.prompt.fineness import Fineness, faults, grown_too_far, looked_at
from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import Picture, to_rgb
from deployer.prompt.messages import ImageSize
from deployer.prompt.picture_key import KeyOf, Part, PictureKeys
from deployer.prompt.picture_limits import PictureLimits, picture_limits
from deployer.prompt.picture_memory import colours, keep_in_one_piece
from deployer.prompt.pixel_options import configured
from deployer.prompt.prepared_image import CutPicture, PictureTimes
from deployer.prompt.seen_video import SeenVideo
from engines.spec import VisionSpec
from engines.vision.parts import ImagePlan, PixelSpec, Segment
from engines.vision.pixels.side_by_side import THREADS, bands

_PART_PIXELS = 1 << 19  # digested at once; a constant, since keys follow from it
_BAND_PIXELS = 1 << 17  # likewise, of a picture in memory: 0.4 ms, as long as to wake a few threads


class ImageTiles:
    """The preprocessing of one deployment."""

    def __init__(self, vision: VisionSpec, config: VisionConfig, *, uncut_pixels: int = 0) -> None:
        """Take the checkpoint's preprocessing with what `vision.*` overrides. Raises ConfigError.

        Pictures of up to `uncut_pixels` are left to the engine to cut, where it can; 0: none.
        """
        self._pixels = configured(vision.pixels, config)
        self._assembly = vision.assembly
        self._uncut_pixels = uncut_pixels
        self._keys = PictureKeys()
        keep_in_one_piece(uncut_pixels)

    @property
    def pixels(self) -> PixelSpec:
        """The preprocessing with what the config overrides."""
        return self._pixels

    @property
    def limits(self) -> PictureLimits:
        """The most that one picture costs."""
        return picture_limits(self._pixels, self._assembly)

    def faults(self, fineness: Fineness) -> list[str]:
        """Return what is wrong with wishes, whatever the picture."""
        return faults(self._pixels, fineness)

    def plan(
        self,
        picture: Picture | SeenVideo | ImageSize,
        fineness: Fineness,
        *,
        index: int = 0,
        num_images: int = 1,
    ) -> ImagePlan:
        """Return what becomes of picture `index` in a prompt with so many. Raises RequestError."""
        wrong = self.faults(fineness)
        if wrong:
            raise ImageError("; ".join(wrong), code="image_option_refused", index=index)
        spec = looked_at(self._pixels, fineness)
        plan = spec.plan(picture.width, picture.height, num_images=num_images)
        grown = grown_too_far(self._pixels, plan, fineness)
        if grown is not None:
            raise ImageError(grown, code="image_option_refused", index=index)
        return plan

    def shapes(self, plan: ImagePlan, fineness: Fineness) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the arrays that a plan gives."""
        return looked_at(self._pixels, fineness).shapes(plan)

    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return what the picture puts into the prompt: stretches of rows, texts between them."""
        return self._assembly.segments(plan)

    def shared(self, plans: Sequence[ImagePlan]) -> tuple[int, ...]:
        """Return what all pictures of a prompt have in common."""
        return self._assembly.shared(plans)

    def key_of_frames(self, plan: ImagePlan, shared: tuple[int, ...], parts: Sequence[Part]) -> KeyOf:
        """Return the key of a video whose frames are resized as its plan says."""
        return self._keys.begin(f"video {plan!r} {self._assembly!r} {shared!r}", parts)

    def prepare(
        self,
        picture: Picture,
        fineness: Fineness,
        *,
        plan: ImagePlan,
        shared: tuple[int, ...],
        may_stay_whole: bool = True,
    ) -> CutPicture:
        """Decode and cut the picture. Raises ImageError.

        `may_stay_whole`: False where it is cut here, whatever a device could do: whole frames of a video
        would fill shared memory.
        """
        spec = looked_at(self._pixels, fineness)
        begun_s = time.perf_counter()
        rgb = to_rgb(picture)
        decoded_s = time.perf_counter()
        how = f"{rgb.width}x{rgb.height} {spec!r} {plan!r} {self._assembly!r} {shared!r}"
        small = may_stay_whole and rgb.width * rgb.height <= self._uncut_pixels
        is_cut = not small or not spec.cuts(plan)
        if is_cut:
            key = self._keys.begin(how, _packed_parts(rgb))
            arrays = spec.arrays(rgb, plan)
        else:
            arrays = (colours(rgb),)
            key = self._keys.begin(how, _parts(*arrays))
        times = PictureTimes(
            fetch_begun_s=picture.fetch_begun_s,
            fetch_s=picture.fetch_s,
            decode_begun_s=begun_s,
            decode_s=decoded_s - begun_s,
            cut_s=time.perf_counter() - decoded_s,
        )
        return CutPicture(key_of=key, arrays=arrays, is_cut=is_cut, times=times)


def image_tiles(vision: VisionSpec | None, config: VisionConfig, *, uncut_pixels: int) -> ImageTiles | None:
    """Return the preprocessing of a model; None where it reads text only. Raises ConfigError."""
    return None if vision is None else ImageTiles(vision, config, uncut_pixels=uncut_pixels)


def _packed_parts(rgb: Image.Image) -> list[Callable[[], bytes]]:
    """Return what packs some lines of a picture; a copy of all would double a large one's memory."""
    lines = max(1, _PART_PIXELS // rgb.width)
    tops = range(0, rgb.height, lines)
    return [partial(_packed, rgb, top, min(top + lines, rgb.height)) for top in tops]


def _packed(rgb: Image.Image, top: int, bottom: int) -> bytes:
    return rgb.crop((0, top, rgb.width, bottom)).tobytes()


def _parts(picture: NDArray[np.uint8]) -> list[Callable[[], memoryview]]:
    """Return what gives the parts of a picture in memory, of which the fourth byte of a pixel is one."""
    height, width, _ = picture.shape
    stretches = bands(height, most=min(THREADS, -(-height * width // _BAND_PIXELS)))
    return [partial(_lines, picture, top, bottom) for top, bottom in stretches]


def _lines(picture: NDArray[np.uint8], top: int, bottom: int) -> memoryview:
    return picture[top:bottom].data
