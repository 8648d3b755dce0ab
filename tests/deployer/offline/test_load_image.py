"""One picture from wherever it is."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from deployer import load_image
from deployer.prompt.image_errors import ImageError


@pytest.fixture
def jpeg() -> bytes:
    """A picture that lies on its side, as phones store them."""
    image = Image.new("RGB", (20, 10), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_every_source_gives_the_same_upright_picture(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg)
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    found = [load_image(source) for source in (jpeg, path, str(path), url, Image.open(path))]
    assert {(image.size, image.mode, image.tobytes()) for image in found} == {
        ((10, 20), "RGB", found[0].tobytes())
    }


async def test_it_works_inside_a_running_loop(jpeg: bytes) -> None:
    assert load_image(jpeg).size == (10, 20)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("/nowhere.png", "image_file_refused"),
        (b"text", "image_format_unsupported"),
        (b"", "image_empty"),
        ("http://127.0.0.1/x.png", "image_address_refused"),
        ("file:///etc/passwd", "image_file_refused"),
    ],
)
def test_what_is_refused_says_why(source: str | bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(source)
    assert caught.value.code == code
