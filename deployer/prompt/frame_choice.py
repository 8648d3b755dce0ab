"""Which frames of a video are looked at: what its request says, else the deployment, else the family.

Numbers alone. A request is never given fewer frames than it asks for, unless the video has no more.
"""

from dataclasses import dataclass

from engines.vision.video_spec import Choice, VideoSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameWish:
    """What is said about one video; None: nothing. At most one of the two."""

    num_frames: int | None = None
    fps: float | None = None  # frames a second


NO_WISH = FrameWish()


def num_chosen(spec: VideoSpec, wish: FrameWish, deployed: FrameWish, *, count: int, seconds: float) -> int:
    """Return how many frames are asked for of a video of `count` frames; it may have fewer."""
    for one in (wish, deployed):
        if one.num_frames is not None:
            return one.num_frames
        if one.fps is not None:
            return max(1, int(seconds * one.fps))
    return spec.num_frames


def chosen_frames(choice: Choice, count: int, wanted: int) -> tuple[int, ...]:
    """Return which of `count` frames are looked at, ascending; all where no more are `wanted`."""
    if wanted >= count:
        return tuple(range(count))
    if choice == "segments":
        stretch = (count - 1) / wanted
        return tuple(int(stretch / 2 + round(stretch * number)) for number in range(wanted))
    shift = 0.5 if choice == "middles" else 0.0
    return tuple(int((number + shift) * (count / wanted)) for number in range(wanted))
