"""Which frames of a video are looked at and how finely, as bodies say it: beside its URL, or once for all."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from deployer.generation.generation_config import INT64
from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_choice import FrameWish
from deployer.prompt.messages import VideoPart
from deployer.serve.fineness_body import Bounds
from deployer.serve.schema_rules import absent, fits
from deployer.serve.strict_body import Body

_Count = Annotated[int, Field(ge=1, lt=INT64)]
_Rate = Annotated[float, Field(gt=0, le=1000)]  # frames a second


class VideoUrl(Body):
    """Where a video comes from, which of its frames are looked at, and how finely."""

    model_config = fits(
        (absent("num_frames", "nframes"), absent("num_frames", "fps"), absent("nframes", "fps"))
    )
    url: str
    num_frames: _Count | None = None
    nframes: _Count | None = None  # the same in Qwen's words
    fps: _Rate | None = None
    max_dynamic_patch: _Count | None = None  # tiles of a frame
    max_pixels: _Count | None = None  # of a frame, after resizing
    min_pixels: _Count | None = None

    @model_validator(mode="after")
    def _says_it_once(self) -> "VideoUrl":
        if sum(each is not None for each in (self.num_frames, self.nframes, self.fps)) > 1:
            raise ValueError("must hold at most one of `num_frames`, `nframes` and `fps`")
        return self

    def part(self, shared: "MediaBounds | None") -> VideoPart:
        """Return the video for a prompt; `shared` says which frames where this says nothing."""
        wish = FrameWish(num_frames=self.num_frames or self.nframes, fps=self.fps)
        if shared is not None and wish == FrameWish():
            wish = FrameWish(num_frames=shared.num_frames, fps=shared.fps)
        bounds: dict[str, Any] = self.model_dump(include={"max_dynamic_patch", "max_pixels", "min_pixels"})
        return VideoPart(source=self.url, wish=wish, fineness=Fineness.of(None, bounds))


class MediaBounds(Bounds):
    """Bounds of all pictures that have none of their own, and which frames of all videos that do not say."""

    model_config = fits((absent("num_frames"), absent("fps")))
    num_frames: _Count | None = None
    fps: _Rate | None = None

    @model_validator(mode="after")
    def _says_it_once(self) -> "MediaBounds":
        if self.num_frames is not None and self.fps is not None:
            raise ValueError("must hold at most one of `num_frames` and `fps`")
        return self
