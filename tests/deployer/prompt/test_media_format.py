"""What files are told by their first bytes, and in which words others are described."""

import pytest
from prompt_requests import picture
from prompt_setup import encoded
from videos import video

from deployer.prompt.frame_table import frame_table
from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import open_picture
from deployer.prompt.media_format import looks_like, picture_format
from deployer.prompt.video_errors import VideoError


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF"])
def test_a_picture_is_told_by_its_first_bytes(name: str) -> None:
    assert picture_format(encoded(picture(), name.upper())) == name


def test_other_containers_of_riff_are_no_pictures() -> None:
    assert picture_format(b"RIFF\0\0\0\0WAVE") is None


def test_a_picture_sent_as_a_video_is_told_where_it_belongs() -> None:
    with pytest.raises(VideoError) as caught:
        frame_table(encoded(picture(), "JPEG"), index=0, max_pixels=10_000, timeout_s=20)
    assert caught.value.code == "video_format_unsupported"
    assert "it is a picture, JPEG" in str(caught.value)
    assert str(caught.value).endswith("; send it as `image_url`")


def test_a_video_sent_as_a_picture_is_called_one() -> None:
    with pytest.raises(ImageError, match=r"not a picture format we read \(it is a video\)"):
        open_picture(video(), index=0, max_pixels=10_000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "it is AVIF"),
        (b"\n <html>", "it starts like a web page or text"),
        (b"#EXTM3U", "it starts like a web page or text"),
        (b"\x01\x02\x03\x04\x05", "it starts with bytes 01 02 03 04"),
    ],
)
def test_what_is_neither_is_described(data: bytes, words: str) -> None:
    assert looks_like(data) == words
