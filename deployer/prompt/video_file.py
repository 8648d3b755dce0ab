"""A video file to upright RGB frames, through PyAV (FFmpeg): all frames are counted, few are decoded.

Formats: those of `media_format.py`. Sound is passed over.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from deployer.prompt.frame_list import Frames
from deployer.prompt.frame_table import FrameTable, frame_table
from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_decoder import VideoDecoder, damaged, unreadable, upright, upright_size
from deployer.prompt.video_errors import VideoError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFile:
    """A video whose frames are counted; its first one was decoded."""

    data: bytes
    table: FrameTable
    max_pixels: int  # of a frame

    @property
    def num_frames(self) -> int:
        """Frames of the file."""
        return len(self.table.times)

    @property
    def width(self) -> int:
        """Pixels of a frame, upright."""
        return self.table.width

    @property
    def height(self) -> int:
        """Pixels of a frame, upright."""
        return self.table.height

    @property
    def seconds(self) -> float:
        """How long it is shown."""
        return self.table.seconds

    def frames(self, wanted: Sequence[int], *, index: int, timeout_s: float) -> Frames:
        """Yield frames by number, ascending, each decoded when it is asked for. Raises VideoError."""
        clock = VideoClock.begin(timeout_s, index=index)
        decoder = VideoDecoder(self.data, self.table.format, max_pixels=self.max_pixels)
        try:
            with closing(decoder):
                for number in wanted:
                    frame = self._frame(decoder, number, clock)
                    self._check_size(frame, index)
                    yield upright(frame)
        except VideoError:
            raise
        except Exception as error:  # on damaged data a decoder may raise anything
            raise unreadable(error, index) from error

    def _check_size(self, frame: Any, index: int) -> None:
        """Raise VideoError for a frame of another size, before it takes more memory as RGB."""
        width, height = upright_size(frame)
        if (width, height) != (self.width, self.height):
            raise VideoError(
                f"frames of {self.width}x{self.height} and of {width}x{height} pixels: must be of one size; "
                "encode it again",
                code="video_unreadable",
                index=index,
            )

    def _frame(self, decoder: VideoDecoder, number: int, clock: VideoClock) -> Any:
        """Return a frame by whatever is shorter: decoding on, or from the last key frame before it."""
        target, key_times = self.table.times[number], self.table.key_times
        key = key_times[max(0, bisect_right(key_times, target) - 1)]
        if decoder.time is None or key > decoder.time:
            decoder.jump(key if key > key_times[0] else None)
            frame = decoder.first_from(target, clock)
            if decoder.time == target:
                return frame
            decoder.jump(None)  # MPEG-TS has no table of frames: a jump may end behind the target
        frame = decoder.first_from(target, clock)
        if frame is None:
            raise damaged(f"frame {number + 1:,} of {self.num_frames:,} cannot be decoded", clock.index)
        return frame


def open_video(data: bytes, *, index: int, max_pixels: int, timeout_s: float) -> VideoFile:
    """Count the frames of a video and decode the first. Raises VideoError."""
    table = frame_table(data, index=index, max_pixels=max_pixels, timeout_s=timeout_s)
    return VideoFile(data=data, table=table, max_pixels=max_pixels)
