"""Where the frames of a video file are: all are counted, the first one is decoded."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from deployer.prompt.media_format import VIDEOS, looks_like, picture_format, video_format
from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_decoder import VideoDecoder, damaged, opened, unreadable, upright_size
from deployer.prompt.video_errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CLOCK_EVERY = 1024  # packets between two looks at the clock


class FrameTable(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a video before its frames are chosen."""

    format: str  # FFmpeg's name
    width: int  # upright
    height: int
    times: tuple[int, ...]  # of each frame, ascending, in the stream's unit
    key_times: tuple[int, ...]  # of those that need no frame before them
    seconds: float


def frame_table(data: bytes, *, index: int, max_pixels: int, timeout_s: float) -> FrameTable:
    """Count the frames of a video and decode the first. Raises VideoError."""
    name = _format_of(data, index)
    _require_av(index)
    clock = VideoClock.begin(timeout_s, index=index)
    try:
        with opened(data, name, max_pixels=max_pixels) as container:
            return _looked_at(data, name, container, clock, max_pixels=max_pixels)
    except VideoError:
        raise
    except Exception as error:  # on damaged data a decoder may raise anything
        raise unreadable(error, index) from error


def _format_of(data: bytes, index: int) -> str:
    """Return FFmpeg's name of a file's format. Raises VideoError."""
    name = video_format(data)
    if name is None:
        way_out = "; send it as `image_url`" if picture_format(data) is not None else ""
        raise VideoError(
            f"not a video format we read ({looks_like(data)}): must be one of {VIDEOS}{way_out}",
            code="video_format_unsupported",
            index=index,
        )
    return name


def _looked_at(
    data: bytes, name: str, container: "InputContainer", clock: VideoClock, *, max_pixels: int
) -> FrameTable:
    index = clock.index
    stream = _stream_of(container, index)
    _check_pixels(stream.width, stream.height, index, max_pixels)
    times, key_times = _counted(container, stream, clock)
    if not times:
        raise VideoError("no frame in it: must have at least one", code="video_empty", index=index)
    if stream.frames > len(times):
        raise damaged(f"{len(times):,} of {stream.frames:,} frames are there", index)
    if not key_times:
        raise damaged("no key frame", index)
    with closing(VideoDecoder(data, name, max_pixels=max_pixels)) as decoder:
        decoder.jump(None)
        first = decoder.first_from(times[0], clock)
    if first is None:
        raise damaged("its first frame cannot be decoded", index)
    width, height = upright_size(first)
    _check_pixels(width, height, index, max_pixels)
    return FrameTable(
        format=name,
        width=width,
        height=height,
        times=times,
        key_times=key_times,
        seconds=_seconds(times, stream),
    )


def _stream_of(container: "InputContainer", index: int) -> "VideoStream":
    """Return the stream that is shown. Raises VideoError where there is none, or none that can be decoded."""
    lack = None
    if not container.streams.video:
        lack = "no picture in it, sound alone: must have a video stream"
    elif container.streams.video[0].codec_context is None:
        lack = "no decoder for its codec: encode it again, best as H.264"
    if lack is not None:
        raise VideoError(lack, code="video_format_unsupported", index=index)
    return container.streams.video[0]


def _counted(
    container: "InputContainer", stream: "VideoStream", clock: VideoClock
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the times of all frames and of the key frames, ascending; nothing is decoded."""
    times, key_times = [], []
    for number, packet in enumerate(container.demux(stream)):
        if number % _CLOCK_EVERY == 0:
            clock.check()
        if packet.size == 0 or packet.is_discard:
            continue
        when = packet.dts if packet.pts is None else packet.pts
        if when is None:
            raise ValueError("a frame without a time")
        times.append(when)
        if packet.is_keyframe:
            key_times.append(when)
    return tuple(sorted(set(times))), tuple(sorted(key_times))


def _seconds(times: Sequence[int], stream: "VideoStream") -> float:
    """Return how long the frames are shown, the last as long as the others on average."""
    unit = float(stream.time_base or 0)
    if len(times) > 1:
        shown = (times[-1] - times[0]) * unit
        return shown * len(times) / (len(times) - 1)
    return 1 / float(stream.average_rate) if stream.average_rate else 0.0


def _check_pixels(width: int, height: int, index: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise VideoError(
            f"frames of {width}x{height} are {width * height:,} pixels: must be at most {max_pixels:,} "
            "(vision.max_image_pixels); send a smaller video",
            code="video_too_many_pixels",
            index=index,
        )


def _require_av(index: int) -> None:
    try:
        import av  # noqa: F401  # is it there?
    except ImportError as error:
        raise VideoError(
            "video files need `av`, which is not installed on this server: send frames (pictures, or a "
            "data:video/jpeg URL), or let its operator run pip install 'vlm-deployer[video]'",
            code="video_format_unsupported",
            index=index,
        ) from error
