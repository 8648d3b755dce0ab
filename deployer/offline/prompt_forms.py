"""The forms in which a prompt may be written, all to conversations.

    "text"                            one prompt
    ("text", picture)                 one prompt with a picture
    ("text", [picture, ...])          one prompt with several
    [{"role": ..., "content": ...}]   one conversation, as OpenAI writes it
    [prompt, prompt, ...]             a batch of any of these

A picture is a PIL image, bytes, a path, or a URL (http, https, data, file).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from deployer.offline.openai_messages import conversation_of, is_message
from deployer.prompt.messages import ImageSource, Message
from engines.errors import RequestError

Picture = Image.Image | bytes | Path | str
TextPrompt = str | tuple[str, Picture | Sequence[Picture]]
Prompt = TextPrompt | Sequence[dict[str, Any] | Message]
Prompts = TextPrompt | Sequence[Any]  # one or a batch; what a batch mixes has no type that checkers infer
T = TypeVar("T")

_URL = re.compile(r"(?:data|https?|file):", re.IGNORECASE)
_FORMS = "text, (text, picture), (text, [pictures]), or a list of messages with `role` and `content`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversations:
    """What one call asks."""

    messages: list[list[Message]]
    is_batch: bool


def conversations(prompts: Prompts) -> Conversations:
    """Return the conversations of a call. Raises RequestError, which names each prompt that is none."""
    if isinstance(prompts, list) and not (prompts and is_message(prompts[0])):
        return Conversations(messages=each(prompts, conversation), is_batch=True)
    return Conversations(messages=[conversation(prompts)], is_batch=False)


def conversation(prompt: Any) -> list[Message]:
    """Return the messages of one prompt. Raises RequestError."""
    if isinstance(prompt, str):
        return [Message.of("user", prompt)]
    if isinstance(prompt, list):
        return conversation_of(prompt)
    if isinstance(prompt, tuple) and len(prompt) == 2 and isinstance(prompt[0], str):
        text, given = prompt
        pictures = given if isinstance(given, list | tuple) else [given]
        return [Message.of("user", text, *(image_source(picture) for picture in pictures))]
    raise RequestError(f"{_shown(prompt)}: is no prompt: must be {_FORMS}")


def image_source(picture: Any) -> ImageSource:
    """Return a picture as prompts take it: text that is no URL is a path. Raises RequestError."""
    if isinstance(picture, str):
        return picture if _URL.match(picture.lstrip()) else Path(picture).expanduser()
    if isinstance(picture, Image.Image | bytes | Path):
        return picture
    raise RequestError(
        f"{_shown(picture)}: is no picture: must be a PIL image, bytes, a path or a URL",
        code="image_url_invalid",
    )


def each(items: Sequence[Any], make: Callable[[Any], T]) -> list[T]:
    """Return what `make` gives for every item. Raises one RequestError that names all at fault."""
    made: list[T] = []
    faults: dict[int, RequestError] = {}
    for index, item in enumerate(items):
        try:
            made.append(make(item))
        except RequestError as error:
            faults[index] = error
    raise_faults(faults)
    return made


def raise_faults(faults: dict[int, RequestError]) -> None:
    """Raise one RequestError for the prompts at fault, if there are any; the first one's code stands."""
    if faults:
        lines = [f"prompts[{index}]: {error}" for index, error in sorted(faults.items())]
        more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise RequestError("\n".join([*lines[:8], *more]), code=faults[min(faults)].code)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"`{text[:60]}{'...' if len(text) > 60 else ''}`"
