"""Pictures of every kind to RGB, and the ones that are refused."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prompt_setup import encoded

from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import open_picture, to_rgb

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)


def read(source: Any, *, max_pixels: int = 1_000_000) -> Image.Image:
    return to_rgb(open_picture(source, index=0, max_pixels=max_pixels))


def refused(source: Any, code: str, *, max_pixels: int = 1_000_000) -> str:
    with pytest.raises(ImageError) as caught:
        read(source, max_pixels=max_pixels)
    assert caught.value.code == code
    assert str(caught.value).startswith("image 1: ")
    return str(caught.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(read(encoded(RGB, kind, **options)), COLOURS)


def test_jpeg_and_gif_are_read() -> None:
    flat = Image.new("RGB", (9, 7), (200, 30, 60))
    for kind in ("JPEG", "GIF"):
        difference = np.abs(np.asarray(read(encoded(flat, kind)), int) - [200, 30, 60])
        assert difference.max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_every_eight_bit_pixel_type_becomes_rgb_as_convert_does(mode: str) -> None:
    image = RGB.convert(mode) if mode != "PA" else RGB.convert("P").convert("PA")
    assert read(image).tobytes() == image.convert("RGB").tobytes()


def test_transparency_keeps_the_colour_below_it() -> None:
    image = RGB.convert("RGBA")
    image.putalpha(0)
    assert np.array_equal(read(encoded(image)), COLOURS)
    palette = RGB.quantize(8)
    assert read(encoded(palette, transparency=b"\x00" * 8)).tobytes() == palette.convert("RGB").tobytes()


def test_a_cmyk_jpeg_is_read_in_its_own_colours() -> None:
    flat = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = np.asarray(read(encoded(flat, "JPEG")))[4, 4]
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_upper_bits(kind: str) -> None:
    grey = (RNG.integers(0, 65536, (5, 6))).astype(np.uint16)
    rgb = np.asarray(read(encoded(Image.fromarray(grey), kind)))
    assert np.array_equal(rgb, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_float_pixels_have_no_range_and_are_refused() -> None:
    message = refused(Image.fromarray(np.zeros((2, 2), np.float32)), "image_format_unsupported")
    assert "pixel type `F`" in message


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_turns_size_and_pixels(orientation: int, kind: str) -> None:
    corners = Image.new("RGB", (64, 32))
    corners.paste((255, 0, 0), (0, 0, 16, 16))  # red at the stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(encoded(corners, kind, exif=exif), index=0, max_pixels=10_000)
    rgb = to_rgb(picture)
    assert rgb.size == (picture.width, picture.height) == ((32, 64) if orientation >= 5 else (64, 32))
    right = orientation in (2, 3, 6, 7)
    bottom = orientation in (3, 4, 7, 8)
    x, y = (rgb.width - 4 if right else 4), (rgb.height - 4 if bottom else 4)
    assert rgb.getpixel((x, y))[0] > 200  # type: ignore[index]  # three channels


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_used_and_noted(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    data = encoded(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    picture = open_picture(data, index=0, max_pixels=100)
    assert picture.notes == ("first of 3 frames used",)
    assert to_rgb(picture).getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_is_a_picture() -> None:
    assert read(encoded(Image.new("RGB", (1, 1), "blue"))).getpixel((0, 0)) == (0, 0, 255)


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    message = refused(png_header(20_000, 20_000), "image_too_many_pixels", max_pixels=64_000_000)
    assert (
        "20000x20000 is 400,000,000 pixels: must be at most 64,000,000 (vision.max_image_pixels)" in message
    )
    refused(RGB, "image_too_many_pixels", max_pixels=599)
    assert read(RGB, max_pixels=600).size == (30, 20)


def test_the_process_wide_limit_of_the_library_does_not_matter() -> None:
    picture = open_picture(png_header(20_000, 20_000), index=0, max_pixels=10**9)
    assert (picture.width, picture.height) == (20_000, 20_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_refused_or_read_but_never_an_unknown_error(kind: str) -> None:
    data = encoded(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)), kind)
    unreadable = 0
    for length in [*range(1, 60, 3), len(data) // 2, len(data) * 3 // 4]:
        try:
            read(data[:length])
        except ImageError as error:
            assert error.code in ("image_unreadable", "image_format_unsupported")
            assert "buffer" not in str(error), "which is the decoder's, and none of the caller's"
            unreadable += error.code == "image_unreadable"
    assert unreadable >= 5


def test_damaged_bytes_never_raise_anything_else() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = bytearray(encoded(RGB, kind))
        for _ in range(60):
            damaged = bytearray(data)
            for position in RNG.integers(0, len(data), 4):
                damaged[position] = RNG.integers(0, 256)
            try:
                read(bytes(damaged))
            except ImageError as error:
                assert error.code.startswith("image_")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"<html><body>404</body></html>", "starts like a web page or text"),
        (b"%PDF-1.7 ...", "starts with bytes 25 50 44 46"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "starts with bytes 25 21 50 53"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "starts with bytes 52 49 46 46"),
        (b"x", "starts with bytes 78"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_told_by_its_first_bytes(data: bytes, hint: str) -> None:
    message = refused(data, "image_format_unsupported")
    assert hint in message
    assert "must be one of BMP, GIF, HEIC, JPEG, PNG, TIFF, WebP" in message


def test_a_callers_image_is_left_as_it_was() -> None:
    image = RGB.convert("P")
    image.info["transparency"] = 0
    read(image)
    assert image.mode == "P" and image.info["transparency"] == 0
