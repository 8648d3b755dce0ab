"""Which frames of a video are looked at: what its request says, else the deployment, else the family.

Numbers alone. A request is never given fewer frames than it asks for, unless the video has no more. Where
frames are joined in steps, a number of them is rounded up to whole steps, one that follows from a rate down.
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
    step = 1 if spec.clip is None else spec.clip.step_frames
    for one in (wish, deployed, FrameWish(num_frames=spec.num_frames, fps=spec.fps)):
        if one.num_frames is not None:
            return -(-one.num_frames // step) * step
        if one.fps is not None:
            least = 1 if spec.clip is None else min(spec.clip.min_frames, count)
            return max(step, int(max(seconds * one.fps, least)) // step * step)
    raise AssertionError("a family says how many frames it looks at, or how many a second")


def chosen_frames(choice: Choice, count: int, wanted: int) -> tuple[int, ...]:
    """Return which of `count` frames are looked at, ascending; all where no more are `wanted`."""
    if wanted >= count:
        return tuple(range(count))
    if choice == "segments":
        stretch = (count - 1) / wanted
        return tuple(int(stretch / 2 + round(stretch * number)) for number in range(wanted))
    shift = 0.5 if choice == "middles" else 0.0
    return tuple(int((number + shift) * (count / wanted)) for number in range(wanted))
