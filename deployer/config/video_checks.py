"""Rules about the frames of videos."""

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig


def frames_of_a_video_are_said_once(config: DeployConfig) -> Complaints:
    """Yield a rate beside a number of frames, and a number above the most there may be."""
    vision = config.vision
    if vision.video_frames is None:
        return
    if vision.video_fps is not None:
        yield "vision.video_fps", f"vision.video_frames={vision.video_frames} says it too; set one to null"
    if vision.video_frames > vision.max_video_frames:
        yield "vision.video_frames", f"must not be above vision.max_video_frames={vision.max_video_frames}"
