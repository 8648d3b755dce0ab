"""A video that comes as its frames: pictures that somebody chose, as in `data:video/jpeg;base64,...,...`."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from PIL import Image

from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import open_picture, to_rgb
from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_errors import VideoError

FRAMES_URL = "data:video/jpeg;base64,"
Frames = Generator[Image.Image, None, None]  # closed by whoever takes them, done or not


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameList:
    """Frames of one size, encoded or as pixels; their headers were read."""

    sources: tuple[bytes | Image.Image, ...]
    width: int  # upright
    height: int
    max_pixels: int

    @property
    def num_frames(self) -> int:
        """Frames that were sent."""
        return len(self.sources)

    def frames(self, wanted: Sequence[int], *, index: int, timeout_s: float) -> Frames:
        """Yield frames by number, each decoded when it is asked for. Raises VideoError."""
        clock = VideoClock.begin(timeout_s, index=index)
        for number in wanted:
            clock.check()
            try:
                yield to_rgb(open_picture(self.sources[number], index=index, max_pixels=self.max_pixels))
            except ImageError as error:
                raise _of_frame(error, number, index) from error


def open_frames(
    sources: Sequence[bytes | Image.Image], *, index: int, max_pixels: int, timeout_s: float
) -> FrameList:
    """Read the headers of frames. Raises VideoError."""
    if not sources:
        raise VideoError("no frames: must have at least one", code="video_empty", index=index)
    sizes = []
    clock = VideoClock.begin(timeout_s, index=index)
    for number, source in enumerate(sources):
        clock.check()
        try:
            picture = open_picture(source, index=index, max_pixels=max_pixels)
        except ImageError as error:
            raise _of_frame(error, number, index) from error
        sizes.append((picture.width, picture.height))
        if sizes[number] != sizes[0]:
            (width, height), (own_width, own_height) = sizes[0], sizes[number]
            raise VideoError(
                f"frame {number + 1} is {own_width}x{own_height} pixels, frame 1 {width}x{height}: must be "
                "of one size; resize them, or send them as pictures",
                code="video_unreadable",
                index=index,
            )
    return FrameList(sources=tuple(sources), width=sizes[0][0], height=sizes[0][1], max_pixels=max_pixels)


def _of_frame(error: ImageError, number: int, index: int) -> VideoError:
    code = error.code.replace("image_", "video_", 1)
    return VideoError(f"frame {number + 1}: {error.about}", code=code, index=index)
