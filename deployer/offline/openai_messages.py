"""Messages as OpenAI writes them, as plain Python or JSON values, to ours.

    {"role": "user", "content": "text"}
    {"role": "user", "content": [{"type": "text", "text": ...},
                                 {"type": "image_url", "image_url": {"url": ..., "detail": "low"}},
                                 {"type": "image_data", "image_data": {"data": <PIL image, bytes or Path>}},
                                 {"type": "video_url", "video_url": {"url": ..., "num_frames": 8}},
                                 {"type": "video_data", "video_data": {"data": <bytes, Path or frames>}}]}

A URL is what it would be over HTTP, under the limits of `vision`; `image_data` and `video_data` are for
Python.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deployer.offline.field_checks import check_counts, named, no_others
from deployer.offline.video_messages import video_part
from deployer.prompt.fineness import BOUNDS, Detail, Fineness
from deployer.prompt.messages import ImagePart, Message, Part, TextPart
from engines.errors import RequestError

_KINDS = ("image_data", "image_url", "text", "video_data", "video_url")
_ROLES = ("assistant", "developer", "system", "user")
_DETAILS: Mapping[str, Detail] = {"auto": "auto", "high": "high", "low": "low", "medium": "medium"}


def is_message(value: object) -> bool:
    """Tell whether a value is meant as a message rather than as a prompt."""
    return isinstance(value, Mapping | Message)


def conversation_of(messages: Sequence[Any]) -> list[Message]:
    """Return the messages of one conversation. Raises RequestError, which names the message and the part."""
    if not messages:
        raise RequestError("a conversation is empty: must hold at least one message")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _message(message: Any, at: str) -> Message:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise RequestError(f"{at}: is {named(message)}: must be a mapping of `role` and `content`")
    no_others(message, ("role", "content"), at)
    role = message.get("role")
    if role not in _ROLES:
        raise RequestError(f"{at}.role={role!r}: must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        parts: tuple[Part, ...] = (TextPart(text=content),)
    elif isinstance(content, list | tuple):
        parts = tuple(_part(part, f"{at}.content[{place}]") for place, part in enumerate(content))
    else:
        raise RequestError(f"{at}.content: is {named(content)}: must be text or a list of parts")
    return Message(role="system" if role == "developer" else role, parts=parts)


def _part(part: Any, at: str) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in _KINDS:
        raise RequestError(f"{at}: must be a mapping whose `type` is one of {', '.join(_KINDS)}")
    no_others(part, ("type", kind), at)
    value = part.get(kind)
    if kind == "text":
        if not isinstance(value, str):
            raise RequestError(f"{at}.text: is {named(value)}: must be text")
        return TextPart(text=value)
    if not isinstance(value, Mapping):
        raise RequestError(f"{at}.{kind}: is {named(value)}: must be a mapping")
    if kind in ("video_url", "video_data"):
        return video_part(value, f"{at}.{kind}", key="url" if kind == "video_url" else "data")
    key, kinds = ("url", (str,)) if kind == "image_url" else ("data", (Image.Image, bytes, Path))
    no_others(value, (key, "detail", *BOUNDS), f"{at}.{kind}")
    source = value.get(key)
    if not isinstance(source, kinds):
        names = "a URL" if key == "url" else "a PIL image, bytes or a Path"
        raise RequestError(f"{at}.{kind}.{key}: is {named(source)}: must be {names}")
    return ImagePart(source=source, fineness=_fineness(value, f"{at}.{kind}"))


def _fineness(value: Mapping[str, Any], at: str) -> Fineness:
    detail = value.get("detail") or "auto"
    if detail not in _DETAILS:
        raise RequestError(f"{at}.detail={detail!r}: must be one of {', '.join(_DETAILS)}")
    check_counts(value, BOUNDS, at)
    return Fineness.of(_DETAILS[detail], value)
