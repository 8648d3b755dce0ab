"""Where the pictures of a message stand in its text. What is written around them is the template's business.

- `<IMAGE_TOKEN>` in the text, or `<image>` where the message has pictures, places them by hand, in order.
- Pictures that all come behind the text are put in front of it, where the families were trained to see them.
- Any other order is kept.

A video and its frames are placed as pictures, though never by hand: beside a marker they come first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deployer.counted import counted
from deployer.prompt.messages import ImagePart, Message, Part, TextPart, VideoPart
from deployer.prompt.seen_video import ClipPart, FramePart, VideoShown
from engines.errors import RequestError

_MARKERS = ("<IMAGE_TOKEN>", "<image>")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedText:
    """Text as it goes into the prompt."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedImage:
    """A picture's place in a message."""

    part: ImagePart | VideoShown
    by_hand: bool  # a marker in the text put it here: the template adds no line break or label


Placed = PlacedText | PlacedImage


def place(message: Message, *, position: int) -> list[Placed]:
    """Return the parts in prompt order, adjacent texts joined by a line break. Raises RequestError."""
    images = [part for part in message.parts if isinstance(part, ImagePart)]
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    if images and message.role != "user":
        raise RequestError(
            f"message {position + 1} ({message.role}) holds {counted(len(images), 'image')}: only user "
            "messages may",
            code="image_placement",
        )
    marker = _marker(texts, num_images=len(images))
    if marker is not None:
        frames = [_placed(part) for part in message.parts if isinstance(part, FramePart | ClipPart)]
        return [*frames, *_by_hand("\n".join(texts), marker, images, position)]
    parts = [part for part in message.parts if not isinstance(part, TextPart) or part.text]
    first_image = next((i for i, part in enumerate(parts) if not isinstance(part, TextPart)), 0)
    if not any(isinstance(part, TextPart) for part in parts[first_image:]):
        parts = [*parts[first_image:], *parts[:first_image]]
    return _join([_placed(part) for part in parts])


def _marker(texts: Sequence[str], *, num_images: int) -> str | None:
    """Return the marker that the text places pictures with. `<image>` alone is ordinary text."""
    for marker in _MARKERS:
        if any(marker in text for text in texts) and (num_images or marker == _MARKERS[0]):
            return marker
    return None


def _by_hand(text: str, marker: str, images: Sequence[ImagePart], position: int) -> list[Placed]:
    pieces = re.split(re.escape(marker), text)
    if len(pieces) - 1 != len(images):
        raise RequestError(
            f"message {position + 1} writes `{marker}` {counted(len(pieces) - 1, 'time')} and holds "
            f"{counted(len(images), 'image')}: must be equal; write one `{marker}` for each image or none",
            code="image_placement",
        )
    placed: list[Placed] = [PlacedText(text=pieces[0])]
    for image, piece in zip(images, pieces[1:], strict=True):
        placed += [PlacedImage(part=image, by_hand=True), PlacedText(text=piece)]
    return [part for part in placed if not isinstance(part, PlacedText) or part.text]


def _placed(part: Part) -> Placed:
    assert not isinstance(part, VideoPart), "videos were opened before (`open_videos.py`)"
    return PlacedText(text=part.text) if isinstance(part, TextPart) else PlacedImage(part=part, by_hand=False)


def _join(parts: Sequence[Placed]) -> list[Placed]:
    joined: list[Placed] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, PlacedText) and isinstance(last, PlacedText):
            joined[-1] = PlacedText(text=f"{last.text}\n{part.text}")
        else:
            joined.append(part)
    return joined
