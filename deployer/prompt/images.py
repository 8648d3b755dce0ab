"""Encoded bytes or a PIL image to an upright RGB picture: the header first, pixels later.

Formats: PNG, JPEG, WebP, GIF, BMP, TIFF, HEIC (`heic.py`), told by `media_format.py`. An EXIF orientation is
applied, which the InternVL reference does not do (it would show the model a photo lying on its side). As in
the reference, `convert("RGB")` drops an alpha channel: transparent pixels keep the colour that is stored
under them.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from deployer.prompt.heic import open_heic
from deployer.prompt.image_errors import ImageError
from deployer.prompt.media_format import PICTURES, looks_like, picture_format

# The plug-ins are called by name: `Image.open` would try every format it knows, some of which run other
# programs, and enforces a process-wide limit on pixels of its own.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """A picture of which only the header was read."""

    image: Image.Image
    index: int
    width: int  # upright
    height: int
    orientation: int  # EXIF, 1: upright as stored
    notes: tuple[str, ...]
    data: bytes | None  # as it was encoded; None: it came as pixels
    fetch_begun_s: float = 0.0  # time.perf_counter()
    fetch_s: float = 0.0  # what it took to get its bytes


def open_picture(source: bytes | Image.Image, *, index: int, max_pixels: int) -> Picture:
    """Return the picture with its size known and its pixels not yet decoded. Raises ImageError."""
    image = source if isinstance(source, Image.Image) else _open(source, index)
    orientation = _orientation(image)
    width, height = image.size
    if orientation in _SIDEWAYS:
        width, height = height, width
    check_pixels(width, height, index=index, max_pixels=max_pixels)
    return Picture(
        image=image,
        index=index,
        width=width,
        height=height,
        orientation=orientation,
        notes=_notes(image, index),
        data=None if isinstance(source, Image.Image) else source,
    )


def check_pixels(width: int, height: int, *, index: int, max_pixels: int) -> None:
    """Raise ImageError for a picture of no pixels or too many."""
    if width == 0 or height == 0:
        raise ImageError(
            f"{width}x{height} pixels: both sides must be at least 1", code="image_empty", index=index
        )
    if width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} is {width * height:,} pixels: must be at most {max_pixels:,} "
            "(vision.max_image_pixels); send a smaller picture",
            code="image_too_many_pixels",
            index=index,
        )


def decode(picture: Picture) -> None:
    """Decode the pixels where they are. Raises ImageError."""
    try:
        picture.image.load()
    except Exception as error:  # on damaged data a decoder may raise anything
        raise _unreadable(picture.index, error) from error


def to_rgb(picture: Picture) -> Image.Image:
    """Return the decoded picture, upright, mode RGB; it may be the caller's own. Raises ImageError."""
    try:
        picture.image.load()
        image: Image.Image = picture.image
        if picture.orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[picture.orientation])
        image = _eight_bit(image, is_png=picture.image.format == "PNG")
    except Exception as error:  # on damaged data a decoder may raise anything
        raise _unreadable(picture.index, error) from error
    if image.mode in ("I", "F"):
        raise ImageError(
            f"pixel type `{image.mode}` has no fixed range of brightness: must be 8 or 16 bit a channel",
            code="image_format_unsupported",
            index=picture.index,
        )
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (picture.width, picture.height):
        raise _unreadable(picture.index, ValueError("the pixels do not have the size that the header says"))
    return rgb


def _open(data: bytes, index: int) -> ImageFile.ImageFile:
    name = picture_format(data)
    if name is None:
        raise ImageError(
            f"not a picture format we read ({looks_like(data)}): must be one of {PICTURES}",
            code="image_format_unsupported",
            index=index,
        )
    try:
        return open_heic(data, index) if name == "HEIC" else _PLUGINS[name](io.BytesIO(data))
    except ImageError:
        raise
    except Exception as error:  # on damaged data a decoder may raise anything
        raise _unreadable(index, error) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that is left to apply.

    A PNG without EXIF in its header counts as upright: `getexif` would decode all pixels to look behind them.
    TIFF is turned by its decoder.
    """
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF data says nothing; the pixels decide whether the picture is readable
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _notes(image: Image.Image, index: int) -> tuple[str, ...]:
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception as error:  # counting frames walks through the file
        raise _unreadable(index, error) from error
    return (f"first of {frames} frames used",) if frames > 1 else ()


def _eight_bit(image: Image.Image, *, is_png: bool) -> Image.Image:
    """Return a 16-bit grey picture with its upper 8 bits; others as they are."""
    if image.mode.startswith("I;16") or (image.mode == "I" and is_png):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image


def _unreadable(index: int, error: Exception) -> ImageError:
    # Where a header ends in the middle of a number, what is said are sizes of a buffer of Pillow's.
    cut = isinstance(error.__cause__ or error, struct.error)
    said = "the file ends too soon" if cut else str(error).strip()
    return ImageError(
        f"damaged or truncated: {said or type(error).__name__}",
        code="image_unreadable",
        index=index,
    )
