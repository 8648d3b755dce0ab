"""`load_video`: a video from wherever it is, and which of its frames a model is shown."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from deployer.offline.load_image import limits_of_vision, on_a_loop
from deployer.offline.prompt_forms import is_url
from deployer.offline.video_messages import frame_wish, listed_frames
from deployer.prompt.media_bytes import video_bytes
from deployer.prompt.messages import VideoPart
from deployer.typed_path import typed_path
from engines.errors import RequestError


def load_video(
    video: str | bytes | Path | Sequence[Image.Image | bytes],
    *,
    num_frames: int | None = None,
    fps: float | None = None,
) -> VideoPart:
    """Return a video from a path, a URL (http, https, data), bytes or a list of its frames, for a prompt.

    It is read and not opened yet. Which frames: `num_frames` of them, `fps` a second, or what
    `vision.video_frames` says. The limits are those of conf/vision/default.yaml: bytes, time, and public
    addresses only. Raises VideoError, RequestError.
    """
    wish = frame_wish({"num_frames": num_frames, "fps": fps}, "load_video")
    if isinstance(video, list | tuple):
        return VideoPart(source=listed_frames(video, "load_video.video"), wish=wish)
    if isinstance(video, str) and video.lstrip().lower().startswith("data:"):
        return VideoPart(source=video, wish=wish)  # it is here already
    if isinstance(video, str) and not is_url(video):
        video = typed_path(video)
    if not isinstance(video, str | bytes | Path):
        raise RequestError(
            f"{type(video).__name__}: is no video: must be bytes, a path, a URL or a list of frames",
            code="video_url_invalid",
        )
    data = on_a_loop(video_bytes(limits_of_vision()).read(video, index=0))
    return VideoPart(source=data, wish=wish)
