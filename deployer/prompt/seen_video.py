"""A video that was opened and of which the frames are chosen; it stands in messages instead of its source."""

from dataclasses import dataclass

from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_list import FrameList
from deployer.prompt.video_file import VideoFile


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeenVideo:
    """What will be decoded of a video."""

    footage: VideoFile | FrameList
    index: int  # in its request, from 0
    chosen: tuple[int, ...]  # numbers of its frames, from 0
    seconds: float  # all of it
    fetch_begun_s: float  # time.perf_counter()
    fetch_s: float

    @property
    def width(self) -> int:
        """Pixels of a frame, upright."""
        return self.footage.width

    @property
    def height(self) -> int:
        """Pixels of a frame, upright."""
        return self.footage.height

    @property
    def notes(self) -> tuple[str, ...]:
        """What a client should know: how much of the video the model sees."""
        return (f"{len(self.chosen):,} of {self.footage.num_frames:,} frames used",)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FramePart:
    """What stands in one place of a prompt: one frame of a video."""

    video: SeenVideo
    place: int  # among the chosen frames, from 0
    label: str  # text in front of it
    fineness: Fineness


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipPart:
    """All chosen frames of a video in one place of a prompt."""

    video: SeenVideo
    fineness: Fineness


VideoShown = FramePart | ClipPart
