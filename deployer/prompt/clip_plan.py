"""What becomes of a video that stands in a prompt as one thing: the size of its frames, its steps in time.

Memory is reserved for the largest picture: the steps of a video share its pixels among them.
"""

from dataclasses import replace

from deployer.prompt.fineness import Fineness, faults, grown_too_far, looked_at
from deployer.prompt.seen_video import SeenVideo
from deployer.prompt.video_errors import VideoError
from engines.vision.parts import ImagePlan
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.video_spec import ClipSpec


def clip_plan(pixels: NativeSpec, clip: ClipSpec, video: SeenVideo, fineness: Fineness) -> ImagePlan:
    """Return the plan of a video's frames, for a deployment with this preprocessing. Raises RequestError."""
    times = clip.times(len(video.chosen), seconds=video.seconds)
    most = pixels.max_pixels // len(times)
    own = replace(pixels, max_pixels=most, min_pixels=min(clip.min_pixels, most))
    wrong = faults(own, fineness)
    if wrong:
        raise _refused("; ".join(wrong), video)
    if fineness.max_pixels is None:
        least = own.min_pixels if fineness.min_pixels is None else fineness.min_pixels
        fineness = replace(fineness, max_pixels=max(least, min(clip.max_pixels, most)))
    plan = looked_at(own, fineness).plan(video.width, video.height)
    grown = grown_too_far(own, plan, fineness)
    if grown is not None:
        raise _refused(grown, video)
    rows, reserved = plan.grid[0] * plan.grid[1] * len(times), pixels.max_pixels // pixels.cell**2
    if rows > reserved:
        raise _refused(
            f"{len(video.chosen)} frames of {video.width}x{video.height} pixels are {rows:,} rows: must be "
            f"at most {reserved:,} (vision.max_pixels); ask for fewer `num_frames`, or a lower `fps`",
            video,
        )
    return replace(plan, num_tiles=len(times), times=times)


def _refused(message: str, video: SeenVideo) -> VideoError:
    return VideoError(message, code="video_option_refused", index=video.index)
