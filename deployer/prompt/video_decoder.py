"""FFmpeg, through PyAV, on one video file: opened under a limit of pixels and decoded forward."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer

_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


class VideoDecoder:
    """Decodes a file forward. To jump is to open it again, which every format can."""

    def __init__(self, data: bytes, name: str, *, max_pixels: int) -> None:
        self._data, self._name, self._max_pixels = data, name, max_pixels
        self._container: InputContainer | None = None
        self._frames: Iterator[Any] = iter(())
        self.time: int | None = None  # of the frame that was decoded last

    def jump(self, key: int | None) -> None:
        """Go to the key frame at a time; None: to the beginning."""
        self.close()
        self._container = opened(self._data, self._name, max_pixels=self._max_pixels)
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.options = _limits(self._max_pixels)
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
        """Close the file, if it is open."""
        if self._container is not None:
            self._container.close()


def opened(data: bytes, name: str, *, max_pixels: int) -> "InputContainer":
    """Open a file, whose headers are read and, to complete them, perhaps a frame."""
    import av

    return av.open(io.BytesIO(data), mode="r", format=name, options=_limits(max_pixels))


def _limits(max_pixels: int) -> dict[str, str]:
    """Return what keeps FFmpeg's decoders from memory for a frame whose size only its own bytes tell.

    It is not the limit that messages name: decoders round sides up, by less than twice and 2^16 pixels.
    """
    return {"max_pixels": str(2 * max_pixels + (1 << 16))}


def upright_size(frame: Any) -> tuple[int, int]:
    """Return width and height of a frame once it is turned as its file says."""
    is_turned = round(frame.rotation) % 180 == 90
    return (frame.height, frame.width) if is_turned else (frame.width, frame.height)


def upright(frame: Any) -> Image.Image:
    """Return a frame as RGB, turned as its file says.

    Pixels that are not square stay as they are stored: the readers of the models' authors leave them too.
    """
    rgb: Image.Image = frame.to_image()
    turn = _TURNS.get(round(frame.rotation) % 360)
    return rgb if turn is None else rgb.transpose(turn)


def unreadable(error: Exception, index: int) -> VideoError:
    """Return the error of a file on which FFmpeg raised another."""
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return damaged(said, index)


def damaged(lack: str, index: int) -> VideoError:
    """Return the error of a file that lacks what it should have."""
    return VideoError(f"damaged or truncated: {lack}", code="video_unreadable", index=index)
