"""Video files of every format that is read, and of those that are none."""

import sys
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from videos import number_of, sound, video

from deployer.prompt.video_errors import VideoError
from deployer.prompt.video_file import VideoFile, open_video


def opened(data: bytes, *, max_pixels: int = 10_000, timeout_s: float = 20) -> VideoFile:
    return open_video(data, index=1, max_pixels=max_pixels, timeout_s=timeout_s)


def numbers(file: VideoFile, wanted: tuple[int, ...]) -> list[int]:
    return [number_of(frame) for frame in file.frames(wanted, index=1, timeout_s=20)]


def refused(data: bytes, code: str, *, wanted: tuple[int, ...] = (), **limits: float) -> str:
    with pytest.raises(VideoError) as caught:
        numbers(opened(data, **limits), wanted)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert str(caught.value).startswith("video 2: ")
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.about


@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("mp4", "h264"), ("mov", "h264"), ("webm", "libvpx-vp9"), ("matroska", "h264"), ("avi", "mpeg4"),
        ("mpegts", "h264"), ("gif", "gif"),
    ],
)  # fmt: skip
def test_frames_are_found_by_their_numbers(format: str, codec: str) -> None:
    file = opened(video(format=format, codec=codec))
    assert (file.num_frames, file.width, file.height) == (30, 96, 64)
    assert file.seconds == pytest.approx(3.0)
    assert numbers(file, (0, 3, 4, 17, 29)) == [0, 3, 4, 17, 29]


@pytest.mark.parametrize(("format", "codec"), [("mp4", "h264"), ("webm", "libvpx-vp9"), ("mpegts", "h264")])
def test_key_frames_shorten_the_way_and_change_no_frame(format: str, codec: str) -> None:
    file = opened(video(format=format, codec=codec, g="5"))
    assert len(file.table.key_times) >= 6
    assert numbers(file, tuple(range(30))) == list(range(30))
    assert numbers(file, (2, 14, 15, 16, 28)) == [2, 14, 15, 16, 28]


def test_frames_that_lie_on_their_side_are_turned() -> None:
    file = opened(video(rotation=90))
    assert (file.width, file.height) == (64, 96)
    [frame] = file.frames((4,), index=0, timeout_s=20)
    assert frame.size == (64, 96)


def test_three_hours_cost_what_their_frames_cost() -> None:
    file = opened(video(format="matroska", seconds_a_frame=360))
    assert file.seconds == pytest.approx(3 * 3600)
    assert numbers(file, (29,)) == [29]


def test_times_ascend() -> None:
    """Frames that refer to later ones are stored behind these."""
    file = opened(video(bf="3"))
    assert all(one < other for one, other in pairwise(file.table.times))


@pytest.mark.parametrize("start", [b"<html>", b"#EXTM3U\nhttp://10.0.0.1/a.ts\n", b'{"a": 1}', b"ffconcat"])
def test_a_text_is_no_video_and_no_list_of_videos(start: bytes) -> None:
    about = refused(start + bytes(300), "video_format_unsupported")
    assert "must be one of AVI, GIF, MP4, MPEG-TS, Matroska, QuickTime, WebM" in about


def test_sound_alone_is_no_video() -> None:
    assert "sound alone" in refused(sound(), "video_format_unsupported")


@pytest.mark.parametrize("format", ["mp4", "matroska", "avi", "mpegts"])
def test_damaged_files_are_refused_or_read_as_far_as_they_go(format: str) -> None:
    data = video(format=format, codec="mpeg4")
    for length in (16, 200, len(data) // 2):
        try:
            file = opened(data[:length])
        except VideoError as error:
            assert error.code in ("video_unreadable", "video_format_unsupported", "video_empty")
        else:
            assert numbers(file, (0,)) == [0]


def test_a_file_that_says_more_frames_than_it_has_is_truncated() -> None:
    data = video(format="avi", codec="mpeg4")
    assert "30 frames are there" in refused(data[: data.index(b"idx1") - 400], "video_unreadable")


def test_large_frames_are_refused_by_the_header() -> None:
    about = refused(video(), "video_too_many_pixels", max_pixels=6000)
    assert "96x64 are 6,144 pixels: must be at most 6,000 (vision.max_image_pixels)" in about


def test_a_frame_of_another_size_is_refused() -> None:
    file = opened(video())
    file = replace(file, table=msgspec.structs.replace(file.table, width=95))
    with pytest.raises(VideoError, match="frames of 95x64 and of 96x64 pixels: must be of one size"):
        numbers(file, (0,))


def test_a_later_frame_beyond_the_limit_is_refused_before_ffmpeg_decodes_it() -> None:
    data = video(format="mpegts", count=2) + video(format="mpegts", count=4, size=(512, 512))
    about = refused(data, "video_unreadable", wanted=(3,), max_pixels=512 * 512)
    assert about.startswith("frames of 96x64 and of 512x512 pixels")
    about = refused(data, "video_unreadable", wanted=(3,), max_pixels=10_000)
    assert about == "damaged or truncated: Invalid data found when processing input"


def test_time_runs_out() -> None:
    about = refused(video(), "video_decode_timeout", timeout_s=0)
    assert "longer than 0 s (vision.video_timeout_s)" in about
    with pytest.raises(VideoError, match="video_timeout_s"):
        list(opened(video()).frames((29,), index=0, timeout_s=0))


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video()
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install 'vlm-deployer[video]'" in refused(data, "video_format_unsupported")
