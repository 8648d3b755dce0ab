"""What a process that prepares pictures is told, and what it tells back."""

from dataclasses import dataclass

import msgspec

from deployer.config.schema import VisionConfig
from deployer.prompt.fineness import Fineness
from engines.spec import VisionSpec
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSetup:
    """The first message to a worker."""

    vision: VisionSpec
    config: VisionConfig
    uncut_pixels: int  # as `ImageTiles` takes it


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelJob:
    """One picture to decode and cut; its arrays go to the files `<path>-0`, `<path>-1`, ..."""

    data: bytes  # the encoded picture
    index: int  # of the picture in its request
    fineness: Fineness
    plan: ImagePlan
    shared: tuple[int, ...]
    path: str


class PixelReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    It is msgpack and never a pickle: whoever decodes what strangers send must not be able to say more.
    """

    key: bytes = b""
    shapes: tuple[tuple[int, ...], ...] = ()
    is_cut: bool = True
    inline: tuple[bytes, ...] | None = None  # the arrays where shared memory had no room for the files
    fault: str | None = None  # why there are none, without the picture's place
    code: str = ""
    decode_begun_s: float = 0.0  # time.perf_counter(), the same in all processes of a machine
    decode_s: float = 0.0  # seconds of work
    cut_s: float = 0.0
