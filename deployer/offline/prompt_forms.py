"""The forms in which a prompt may be written, all to conversations.

    "text"                            one prompt
    ("text", picture)                 one prompt with a picture
    ("text", [picture, ...])          one prompt with several
    ("text", load_video("clip.mp4"))  one prompt with a video, alone or among pictures
    [{"role": ..., "content": ...}]   one conversation, as OpenAI writes it
    [prompt, prompt, ...]             a batch of any of these

A picture is a PIL image, bytes, a path, or a URL (http, https, data, file).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from deployer.offline.openai_messages import conversation_of, is_message
from deployer.prompt.messages import ImagePart, ImageSource, Message, TextPart, VideoPart
from deployer.typed_path import typed_path
from engines.errors import RequestError

Picture = Image.Image | bytes | Path | str
Shown = Picture | VideoPart
TextPrompt = str | tuple[str, Shown | Sequence[Shown]]
Prompt = TextPrompt | Sequence[dict[str, Any] | Message]
Prompts = TextPrompt | Sequence[Any]  # one or a batch; what a batch mixes has no type that checkers infer

MOST_NAMED = 10  # faulty prompts in one error
_URL = re.compile(r"(?:data|https?|file):", re.IGNORECASE)
_FORMS = "text, (text, picture or video), (text, [pictures]), or a list of messages with `role` and `content`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversations:
    """What one call asks; `faults` says by place which prompts are none, whose messages are empty."""

    messages: list[list[Message]]
    is_batch: bool
    faults: dict[int, RequestError] = field(default_factory=dict)


def conversations(prompts: Prompts) -> Conversations:
    """Return the conversations of a call. Raises RequestError where a single prompt is none."""
    if isinstance(prompts, list) and not (prompts and is_message(prompts[0])):
        return _batch(prompts)
    return Conversations(messages=[conversation(prompts)], is_batch=False)


def _batch(prompts: Sequence[Any]) -> Conversations:
    messages: list[list[Message]] = []
    faults: dict[int, RequestError] = {}
    for index, prompt in enumerate(prompts):
        try:
            messages.append(conversation(prompt))
        except RequestError as error:
            messages.append([])
            faults[index] = error
    return Conversations(messages=messages, is_batch=True, faults=faults)


def conversation(prompt: Any) -> list[Message]:
    """Return the messages of one prompt. Raises RequestError."""
    if isinstance(prompt, str):
        return [Message.of("user", prompt)]
    if isinstance(prompt, list):
        return conversation_of(prompt)
    if isinstance(prompt, tuple) and len(prompt) == 2 and isinstance(prompt[0], str):
        text, given = prompt
        shown = given if isinstance(given, list | tuple) else [given]
        return [Message(role="user", parts=(*map(_shown_part, shown), TextPart(text=text)))]
    raise RequestError(f"{_shown(prompt)}: is no prompt: must be {_FORMS}")


def _shown_part(shown: Any) -> ImagePart | VideoPart:
    return shown if isinstance(shown, VideoPart) else ImagePart(source=image_source(shown))


def image_source(picture: Any) -> ImageSource:
    """Return a picture as prompts take it: text that is no URL is a path. Raises RequestError."""
    if isinstance(picture, str):
        return picture if is_url(picture) else typed_path(picture)
    if isinstance(picture, Image.Image | bytes | Path):
        return picture
    raise RequestError(
        f"{_shown(picture)}: is no picture: must be a PIL image, bytes, a path, a URL or a load_video(...)",
        code="image_url_invalid",
    )


def is_url(text: str) -> bool:
    """Tell whether text is a URL rather than a path."""
    return _URL.match(text.lstrip()) is not None


def raise_faults(faults: dict[int, RequestError], *, num_unread: int = 0) -> None:
    """Raise one RequestError for the prompts at fault, if there are any; the first one's code stands.

    `num_unread`: prompts whose pictures nobody decoded, as there were faults enough.
    """
    if faults:
        lines = [f"prompts[{index}]: {error}" for index, error in sorted(faults.items())]
        more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
        unread = [f"the pictures of {num_unread} more prompts were not decoded"] if num_unread else []
        raise RequestError("\n".join([*lines[:MOST_NAMED], *more, *unread]), code=faults[min(faults)].code)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"`{text[:60]}{'...' if len(text) > 60 else ''}`"
