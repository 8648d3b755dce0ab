"""A conversation as plain values: what the HTTP server and the offline pipeline hand to `assemble.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from deployer.prompt.fineness import AS_DEPLOYED, Fineness
from deployer.prompt.frame_choice import NO_WISH, FrameWish
from deployer.prompt.seen_video import VideoShown

Role = Literal["system", "user", "assistant", "tool"]
ToolSpec = Mapping[
    str, Any
]  # OpenAI's: {"type": "function", "function": {"name", "description", "parameters"}}
# str: a data:, http(s): or file: URL, checked against the limits of `vision`. The others never come from a
# client: bytes are an encoded picture, a Path is read as it is, a PIL image is taken as it is.
ImageSource = str | bytes | Path | Image.Image
VideoSource = str | bytes | Path | tuple[bytes | Image.Image, ...]  # likewise; a tuple: its frames


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """A stretch of text."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """A picture and how finely it is looked at."""

    source: ImageSource
    fineness: Fineness = AS_DEPLOYED


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSize:
    """A picture that is not there yet, to be priced."""

    width: int  # pixels, upright
    height: int
    fineness: Fineness = AS_DEPLOYED


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPart:
    """A video, which of its frames are looked at, and how finely."""

    source: VideoSource
    wish: FrameWish = NO_WISH
    fineness: Fineness = AS_DEPLOYED


Part = TextPart | ImagePart | VideoPart | VideoShown  # a video becomes what is shown of it


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call that the model made in an earlier turn."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn, its parts in the order in which they were sent."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant
    tool_call_id: str | None = None  # of a tool: the call that it answers

    @staticmethod
    def of(role: Role, text: str, *images: ImageSource) -> "Message":
        """Return a turn of one text, its pictures in front of it."""
        pictures = tuple(ImagePart(source=image) for image in images)
        return Message(role=role, parts=(*pictures, TextPart(text=text)))
