"""HEIC pictures: read where pillow-heif is, refused with the way out where it is not."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from deployer.prompt.heic import is_heic
from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import open_picture, to_rgb


def heic(*, orientation: int = 1) -> bytes:
    """A picture of two halves, red above and blue below, 64 wide and 32 high as it is stored."""
    heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :, 0] = pixels[16:, :, 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = heif.from_pillow(Image.fromarray(pixels))
    file.info["exif"] = exif.tobytes()
    out = io.BytesIO()
    file.save(out, quality=95)
    return out.getvalue()


def test_a_heic_picture_has_its_size_before_and_its_colours_after_decoding() -> None:
    picture = open_picture(heic(), index=0, max_pixels=10_000)
    assert (picture.width, picture.height) == (64, 32)
    rgb = np.asarray(to_rgb(picture)).astype(int)
    assert rgb[4, 30, 0] > 200 > 60 > rgb[4, 30, 2]
    assert rgb[28, 30, 2] > 200 > 60 > rgb[28, 30, 0]


def test_one_that_lies_on_its_side_is_turned_once() -> None:
    picture = open_picture(heic(orientation=6), index=0, max_pixels=10_000)
    assert (picture.width, picture.height) == (32, 64)
    rgb = np.asarray(to_rgb(picture)).astype(int)
    assert rgb.shape == (64, 32, 3)
    assert rgb[30, 28, 0] > 200  # what was above is on the right now


def test_one_with_too_many_pixels_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError) as caught:
        open_picture(heic(), index=0, max_pixels=2000)
    assert caught.value.code == "image_too_many_pixels"


@pytest.mark.parametrize("length", [16, 100, 0.5, 0.9])
def test_a_truncated_one_is_refused(length: float) -> None:
    data = heic()
    with pytest.raises(ImageError) as caught:
        to_rgb(
            open_picture(
                data[: int(length * len(data) if length < 1 else length)], index=2, max_pixels=10_000
            )
        )
    assert caught.value.code == "image_unreadable"
    assert str(caught.value).startswith("image 3: damaged or truncated: ")
    assert str(caught.value).splitlines() == [str(caught.value)], "one line, whatever the library says"


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0\x1cftypheic" + bytes(40)
    assert is_heic(data)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        ImageError, match=r"image 1: HEIC needs `pillow-heif`.*vlm-deployer\[heic\]"
    ) as caught:
        open_picture(data, index=0, max_pixels=10)
    assert caught.value.code == "image_format_unsupported"


def test_a_film_is_no_picture() -> None:
    with pytest.raises(ImageError, match="must be one of BMP, GIF, HEIC"):
        open_picture(b"\0\0\0\x1cftypisom" + bytes(40), index=0, max_pixels=10)
