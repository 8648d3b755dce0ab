"""What a prompt fetches beside its text, pictures and videos: what either is called where it is refused."""

from typing import Literal

from deployer.prompt.image_errors import ImageError
from deployer.prompt.video_errors import VideoError
from engines.errors import RequestError

Medium = Literal["image", "video"]
NOUNS: dict[Medium, str] = {"image": "picture", "video": "video"}
# Keys of `vision`.
MAX_BYTES: dict[Medium, str] = {"image": "vision.max_image_bytes", "video": "vision.max_video_bytes"}
TIMEOUT: dict[Medium, str] = {"image": "vision.fetch_timeout_s", "video": "vision.video_timeout_s"}


def refused(medium: Medium, message: str, *, fault: str, index: int) -> RequestError:
    """Return the error of one picture or video; its code is `image_<fault>` or `video_<fault>`."""
    kind = ImageError if medium == "image" else VideoError
    return kind(message, code=f"{medium}_{fault}", index=index)
