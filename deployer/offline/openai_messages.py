"""Messages as OpenAI writes them, as plain Python or JSON values, to ours.

    {"role": "user", "content": "text"}
    {"role": "user", "content": [{"type": "text", "text": ...},
                                 {"type": "image_url", "image_url": {"url": ..., "detail": "low"}},
                                 {"type": "image_data", "image_data": {"data": <PIL image, bytes or Path>}}]}

A URL is what it would be over HTTP, under the limits of `vision`; `image_data` is for Python.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deployer.config.suggest import quoted
from deployer.prompt.fineness import BOUNDS, Detail, Fineness
from deployer.prompt.messages import ImagePart, Message, Part, TextPart
from engines.errors import RequestError

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
        raise RequestError(f"{at}: is {_named(message)}: must be a mapping of `role` and `content`")
    _no_others(message, ("role", "content"), at)
    role = message.get("role")
    if role not in _ROLES:
        raise RequestError(f"{at}.role={role!r}: must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        parts: tuple[Part, ...] = (TextPart(text=content),)
    elif isinstance(content, list | tuple):
        parts = tuple(_part(part, f"{at}.content[{place}]") for place, part in enumerate(content))
    else:
        raise RequestError(f"{at}.content: is {_named(content)}: must be text or a list of parts")
    return Message(role="system" if role == "developer" else role, parts=parts)


def _part(part: Any, at: str) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in ("text", "image_url", "image_data"):
        raise RequestError(f"{at}: must be a mapping whose `type` is text, image_url or image_data")
    _no_others(part, ("type", kind), at)
    value = part.get(kind)
    if kind == "text":
        if not isinstance(value, str):
            raise RequestError(f"{at}.text: is {_named(value)}: must be text")
        return TextPart(text=value)
    if not isinstance(value, Mapping):
        raise RequestError(f"{at}.{kind}: is {_named(value)}: must be a mapping")
    key, kinds = ("url", (str,)) if kind == "image_url" else ("data", (Image.Image, bytes, Path))
    _no_others(value, (key, "detail", *BOUNDS), f"{at}.{kind}")
    source = value.get(key)
    if not isinstance(source, kinds):
        names = "a URL" if key == "url" else "a PIL image, bytes or a Path"
        raise RequestError(f"{at}.{kind}.{key}: is {_named(source)}: must be {names}")
    return ImagePart(source=source, fineness=_fineness(value, f"{at}.{kind}"))


def _fineness(value: Mapping[str, Any], at: str) -> Fineness:
    detail = value.get("detail") or "auto"
    if detail not in _DETAILS:
        raise RequestError(f"{at}.detail={detail!r}: must be one of {', '.join(_DETAILS)}")
    for word in BOUNDS:
        bound = value.get(word)
        if bound is not None and (type(bound) is not int or bound < 1):
            raise RequestError(f"{at}.{word}={bound!r}: must be a whole number of at least 1")
    return Fineness.of(_DETAILS[detail], value)


def _no_others(value: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    others = sorted(str(key) for key in value if key not in known and value[key] is not None)
    if others:
        raise RequestError(f"{at}: unknown {quoted(others)}: known are {quoted(sorted(known))}")


def _named(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
