"""How long it may take to find the frames of one video, and as long again to decode those that are chosen."""

import time
from dataclasses import dataclass
from typing import Self

from deployer.prompt.video_errors import VideoError


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoClock:
    """When a video has taken too long."""

    deadline_s: float  # time.monotonic()
    timeout_s: float
    index: int  # of the video in its request, from 0

    @classmethod
    def begin(cls, timeout_s: float, *, index: int) -> Self:
        """Return a clock that starts now."""
        return cls(deadline_s=time.monotonic() + timeout_s, timeout_s=timeout_s, index=index)

    def check(self) -> None:
        """Raise VideoError where the time is over."""
        if time.monotonic() > self.deadline_s:
            raise took_too_long(self.timeout_s, index=self.index)


def took_too_long(timeout_s: float, *, index: int) -> VideoError:
    """Return the error of a video that takes more than `vision.video_timeout_s`."""
    return VideoError(
        f"finding and decoding its frames took longer than {timeout_s:g} s (vision.video_timeout_s); send a "
        "shorter or smaller video, or ask for fewer frames",
        code="video_decode_timeout",
        index=index,
    )
