"""What a process that decodes pictures and videos is told, and what it tells back."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from deployer.config.schema import VisionConfig
from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_table import FrameTable
from deployer.prompt.media import Medium
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepared_image import PictureTimes
from engines.spec import VisionSpec
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSetup:
    """The first message to a worker."""

    vision: VisionSpec
    config: VisionConfig
    uncut_pixels: int  # as `ImageTiles` takes it


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureJob:
    """One picture to decode and cut."""

    medium: ClassVar[Medium] = "image"
    data: bytes  # the encoded picture
    index: int  # of the picture in its request
    fineness: Fineness
    plan: ImagePlan
    shared: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableJob:
    """One video file to count the frames of."""

    medium: ClassVar[Medium] = "video"
    data: bytes
    index: int  # of the video in its request


@dataclass(frozen=True, kw_only=True, slots=True)
class FramesJob:
    """The chosen frames of one video, to decode and cut."""

    medium: ClassVar[Medium] = "video"
    images: tuple[PlannedImage, ...]  # as `prepare_video` takes them
    index: int  # of the video in its request
    shared: tuple[int, ...]


PixelJob = PictureJob | TableJob | FramesJob


class ReadyPicture(msgspec.Struct, frozen=True, kw_only=True):
    """One picture or frame, or all of a video, decoded and cut."""

    key: bytes
    shapes: tuple[tuple[int, ...], ...]  # of its arrays
    is_cut: bool
    times: PictureTimes  # of what the worker did


class PixelReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    It is msgpack and never a pickle: whoever decodes what strangers send must not be able to say more.
    """

    pictures: tuple[ReadyPicture, ...] = ()
    inline: tuple[bytes, ...] | None = None  # their arrays where shared memory had no room for the files
    table: FrameTable | None = None  # of a TableJob
    fault: str | None = None  # why there is nothing, without the place of the picture or video
    code: str = ""
