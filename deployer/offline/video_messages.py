"""Videos in messages that somebody wrote in Python; what `openai_messages.py` is for texts and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deployer.offline.field_checks import check_counts, named, no_others
from deployer.prompt.fineness import BOUNDS, Fineness
from deployer.prompt.frame_choice import FrameWish
from deployer.prompt.messages import VideoPart, VideoSource
from engines.errors import RequestError

_COUNTS = ("num_frames", "nframes")


def video_part(value: Mapping[str, Any], at: str, *, key: str) -> VideoPart:
    """Return the video of `video_url` (`key` is url) or `video_data` (data). Raises RequestError."""
    no_others(value, (key, *_COUNTS, "fps", *BOUNDS), at)
    source = value.get(key)
    if isinstance(source, list):
        source = tuple(source)
    return VideoPart(
        source=_checked(source, f"{at}.{key}", is_url=key == "url"),
        wish=frame_wish(value, at),
        fineness=_fineness(value, at),
    )


def frame_wish(value: Mapping[str, Any], at: str) -> FrameWish:
    """Return which frames are asked for, by `num_frames`, `nframes` or `fps`. Raises RequestError."""
    check_counts(value, _COUNTS, at)
    fps = value.get("fps")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000):
        raise RequestError(f"{at}.fps={fps!r}: must be a number above 0 and at most 1000")
    if sum(value.get(word) is not None for word in (*_COUNTS, "fps")) > 1:
        raise RequestError(f"{at}: must hold at most one of `num_frames`, `nframes` and `fps`")
    count = value.get("num_frames") or value.get("nframes")
    return FrameWish(num_frames=count, fps=None if fps is None else float(fps))


def _checked(source: object, at: str, *, is_url: bool) -> VideoSource:
    if is_url:
        if isinstance(source, str):
            return source
        raise RequestError(f"{at}: is {named(source)}: must be a URL")
    if isinstance(source, bytes | Path):
        return source
    if isinstance(source, tuple):
        return listed_frames(source, at)
    raise RequestError(f"{at}: is {named(source)}: must be bytes, a Path, or a list of PIL images or bytes")


def listed_frames(frames: Sequence[Any], at: str) -> tuple[bytes | Image.Image, ...]:
    """Return a video's frames as prompts take them. Raises RequestError that names the first that is none."""
    for index, frame in enumerate(frames):
        if not isinstance(frame, bytes | Image.Image):
            raise RequestError(
                f"{at}[{index}]: is {named(frame)}: must be a PIL image or bytes of a picture file; "
                "of an array make one by PIL.Image.fromarray"
            )
    return tuple(frames)


def _fineness(value: Mapping[str, Any], at: str) -> Fineness:
    check_counts(value, BOUNDS, at)
    return Fineness.of(None, value)
