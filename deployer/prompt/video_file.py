"""A video file to upright RGB frames, through PyAV (FFmpeg): all frames are counted, few are decoded.

Formats: those of `video_format.py`. Sound is passed over.
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from deployer.prompt.frame_list import Frames
from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_errors import VideoError
from deployer.prompt.video_format import video_format

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CLOCK_EVERY = 1024  # packets between two looks at the clock
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFile:
    """A video whose frames are counted; its first one was decoded."""

    data: bytes
    format: str  # FFmpeg's name
    width: int  # upright
    height: int
    times: tuple[int, ...]  # of each frame, ascending, in the stream's unit
    key_times: tuple[int, ...]  # of those that need no frame before them
    seconds: float

    @property
    def num_frames(self) -> int:
        """Frames of the file."""
        return len(self.times)

    def frames(self, wanted: Sequence[int], *, index: int, timeout_s: float) -> Frames:
        """Yield frames by number, ascending, each decoded when it is asked for. Raises VideoError."""
        clock = VideoClock.begin(timeout_s, index=index)
        try:
            with closing(_Decoder(self.data, self.format)) as decoder:
                for number in wanted:
                    frame = self._frame(decoder, number, clock)
                    self._check_size(frame, index)
                    yield _upright(frame)
        except VideoError:
            raise
        except Exception as error:  # on damaged data a decoder may raise anything
            raise _unreadable(error, index) from error

    def _check_size(self, frame: Any, index: int) -> None:
        """Raise VideoError for a frame of another size, before it takes more memory as RGB."""
        width, height = _upright_size(frame)
        if (width, height) != (self.width, self.height):
            raise VideoError(
                f"frames of {self.width}x{self.height} and of {width}x{height} pixels: must be of one size; "
                "encode it again",
                code="video_unreadable",
                index=index,
            )

    def _frame(self, decoder: "_Decoder", number: int, clock: VideoClock) -> Any:
        """Return a frame by whatever is shorter: decoding on, or from the last key frame before it."""
        target = self.times[number]
        key = self.key_times[max(0, bisect_right(self.key_times, target) - 1)]
        if decoder.time is None or key > decoder.time:
            decoder.jump(key if key > self.key_times[0] else None)
            frame = decoder.first_from(target, clock)
            if decoder.time == target:
                return frame
            decoder.jump(None)  # MPEG-TS has no table of frames: a jump may end behind the target
        frame = decoder.first_from(target, clock)
        if frame is None:
            raise _damaged(f"frame {number + 1:,} of {self.num_frames:,} cannot be decoded", clock.index)
        return frame


class _Decoder:
    """Decodes a file forward. To jump is to open it again, which every format can."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name
        self._container: InputContainer | None = None
        self._frames: Iterator[Any] = iter(())
        self.time: int | None = None  # of the frame that was decoded last

    def jump(self, key: int | None) -> None:
        """Go to the key frame at a time; None: to the beginning."""
        self.close()
        self._container = _opened(self._data, self._name)
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        if key is not None:
            self._container.seek(key, stream=stream)
        self._frames, self.time = self._container.decode(stream), None

    def first_from(self, target: int, clock: VideoClock) -> Any:
        """Return the first frame at a time or behind it; None where there is none."""
        for frame in self._frames:
            clock.check()
            self.time = frame.dts if frame.pts is None else frame.pts
            if self.time is not None and self.time >= target:
                return frame
        return None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()


def open_video(data: bytes, *, index: int, max_pixels: int, timeout_s: float) -> VideoFile:
    """Count the frames of a video and decode the first. Raises VideoError."""
    name = video_format(data, index=index)
    _require_av(index)
    clock = VideoClock.begin(timeout_s, index=index)
    try:
        with _opened(data, name) as container:
            return _looked_at(data, name, container, clock, max_pixels=max_pixels)
    except VideoError:
        raise
    except Exception as error:  # on damaged data a decoder may raise anything
        raise _unreadable(error, index) from error


def _looked_at(
    data: bytes, name: str, container: "InputContainer", clock: VideoClock, *, max_pixels: int
) -> VideoFile:
    index = clock.index
    stream = _stream_of(container, index)
    _check_pixels(stream.width, stream.height, index, max_pixels)
    times, key_times = _counted(container, stream, clock)
    if not times:
        raise VideoError("no frame in it: must have at least one", code="video_empty", index=index)
    if stream.frames > len(times):
        raise _damaged(f"{len(times):,} of {stream.frames:,} frames are there", index)
    if not key_times:
        raise _damaged("no key frame", index)
    with closing(_Decoder(data, name)) as decoder:
        decoder.jump(None)
        first = decoder.first_from(times[0], clock)
    if first is None:
        raise _damaged("its first frame cannot be decoded", index)
    width, height = _upright_size(first)
    _check_pixels(width, height, index, max_pixels)
    return VideoFile(
        data=data,
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


def _upright_size(frame: Any) -> tuple[int, int]:
    """Return width and height of a frame once it is turned as its file says."""
    is_turned = round(frame.rotation) % 180 == 90
    return (frame.height, frame.width) if is_turned else (frame.width, frame.height)


def _upright(frame: Any) -> Image.Image:
    """Return a frame as RGB, turned as its file says."""
    rgb: Image.Image = frame.to_image()
    turn = _TURNS.get(round(frame.rotation) % 360)
    return rgb if turn is None else rgb.transpose(turn)


def _check_pixels(width: int, height: int, index: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise VideoError(
            f"frames of {width}x{height} are {width * height:,} pixels: must be at most {max_pixels:,} "
            "(vision.max_image_pixels); send a smaller video",
            code="video_too_many_pixels",
            index=index,
        )


def _opened(data: bytes, name: str) -> "InputContainer":
    import av

    return av.open(io.BytesIO(data), mode="r", format=name)


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


def _unreadable(error: Exception, index: int) -> VideoError:
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return _damaged(said, index)


def _damaged(lack: str, index: int) -> VideoError:
    return VideoError(f"damaged or truncated: {lack}", code="video_unreadable", index=index)
