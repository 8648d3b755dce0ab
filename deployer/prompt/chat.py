"""A conversation through a Jinja template: text with holes where pictures stand.

A template is `chat_templates/<name>.jinja` or a file of one's own. It sees

    messages                list of {role, content, num_images, tool_calls, tool_call_id}; content is a list
                            of parts: {type: "text", text} or {type: "image", slot, number, by_hand,
                            after_text}; a call is {id, name, arguments}
    tools                   list of OpenAI's tool objects; empty for a template that names no `tool_format`
    system                  the deployment's system text: a string ("": none), or none for the template's own
    add_generation_prompt   whether the answer's beginning is to be written
    bos_token, eos_token    strings, "" where the vocabulary has none
    raise_exception(text)   refuses the request

and writes `part.slot` exactly once for each picture, in order. At its top it sets `image_token` (the
placeholder of the vocabulary), `stop_words`, `tool_format` where it knows tools, and `bos_each_piece` where
the text behind each picture begins with bos again. `number` counts the pictures of the conversation from 1.
A frame of a video is a part of type `image` that is placed by hand between texts, its label and a line
break; `num_images` and `number` do not count it. The slot is a random string of each rendering, so that no
text of a client can make a hole.
"""

import json
import secrets
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deployer.assets import resource_dir
from deployer.errors import ConfigError
from deployer.prompt.messages import ImagePart, Message, ToolSpec
from deployer.prompt.placement import Placed, PlacedImage, PlacedText, place
from deployer.prompt.seen_video import FramePart, VideoShown
from deployer.prompt.tool_format import named_format
from deployer.prompt.turn_words import View, Write, with_words, without_words
from engines.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A prompt's text, cut at its pictures: one piece more than pictures."""

    pieces: tuple[str, ...]
    images: tuple[ImagePart | VideoShown, ...]  # in prompt order


class ChatTemplate:
    """One template, tried out when it is loaded."""

    def __init__(
        self,
        path: Path,
        *,
        bos_token: str,
        eos_token: str,
        origin: str,
        words: Mapping[str, str] | None = None,
        completion: bool = False,
    ) -> None:
        """`origin`: the config key that chose it; `words`: what stands around messages instead of its own;
        `completion`: nothing does.

        Raises ConfigError with the line at fault.
        """
        self._path = path
        self._origin = origin
        self._names = {"bos_token": bos_token, "eos_token": eos_token}
        self._template = self._load()
        self._reworded: Write | None = None
        exported = self._exported()
        if completion:
            self._reworded = without_words(self._written)
        elif words:
            self._reworded = with_words(self._written, words, origin=origin)
        self.stop_words = tuple(str(word) for word in exported.get("stop_words", ()))
        self.image_token: str | None = exported.get("image_token")
        self.bos_each_piece = bool(exported.get("bos_each_piece", False))
        # Calls and results of tools are turns too, for which there are no words to replace.
        asked = exported.get("tool_format") if self._reworded is None else None
        self.tool_format = named_format(asked, origin=origin)

    def render(
        self,
        messages: Sequence[Message],
        *,
        system: str | None,
        add_generation_prompt: bool,
        tools: Sequence[ToolSpec] = (),
    ) -> Rendered:
        """Return the prompt's text around its pictures. Raises RequestError."""
        placed = [place(message, position=position) for position, message in enumerate(messages)]
        images = [part.part for parts in placed for part in parts if isinstance(part, PlacedImage)]
        slots = _Slots(count=len(images))
        views = [_view(message, parts, slots) for message, parts in zip(messages, placed, strict=True)]
        try:
            if self._reworded is not None:
                text = self._reworded(views, system, add_generation_prompt)
            else:
                text = self._written(views, system, add_generation_prompt, tools)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise RequestError(f"chat template {self._where(error)}: {error}") from error
        return Rendered(pieces=slots.split(text, self._path), images=tuple(images))

    def _written(
        self,
        views: Sequence[View],
        system: str | None,
        add_generation_prompt: bool,
        tools: Sequence[ToolSpec] = (),
    ) -> str:
        return self._template.render(
            messages=views,
            system=system,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            raise_exception=_refuse,
            **self._names,
        )

    def _load(self) -> Template:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader([self._path.parent, resource_dir("chat_templates")]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
        )
        environment.filters["tojson"] = plain_json
        try:
            return environment.get_template(self._path.name)
        except TemplateSyntaxError as error:
            raise ConfigError(
                [f"{self._origin}: {error.filename}, line {error.lineno}: {error.message}"]
            ) from error
        except (TemplateError, UnicodeDecodeError) as error:
            raise ConfigError(
                [f"{self._origin}: {self._path} cannot be read as a template: {error}"]
            ) from error

    def _exported(self) -> dict[str, Any]:
        """Return what the template sets at its top; a conversation with a picture is rendered as a trial."""
        trial = [
            Message.of("user", "text", b"picture"),
            Message.of("assistant", "text"),
            Message.of("user", "text"),
        ]
        try:
            self.render(trial, system=None, add_generation_prompt=True)
            self.render(trial[:1], system="", add_generation_prompt=False)
            views: dict[str, Any] = {
                "messages": [],
                "system": None,
                "tools": (),
                "add_generation_prompt": False,
            }
            module = self._template.make_module({**views, "raise_exception": _refuse, **self._names})
        except (RequestError, TemplateError) as error:
            raise ConfigError([f"{self._origin}: {error}"]) from error
        return dict(module.__dict__)

    def _where(self, error: BaseException) -> str:
        """Return file and line of the innermost frame that lies in a template."""
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.endswith(".jinja") or frame.filename == str(self._path)
        ]
        return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(self._path)


class _Slots:
    """The strings that mark pictures in one rendering."""

    def __init__(self, *, count: int) -> None:
        secret = secrets.token_hex(16)
        self._slots = [f"<{secret}:{number}>" for number in range(count)]
        self._free = list(reversed(self._slots))
        self._num_numbered = 0

    def next(self) -> str:
        """Return the next picture's mark."""
        return self._free.pop()

    def number(self) -> int:
        """Return the number of the next picture that is no frame, counted from 1."""
        self._num_numbered += 1
        return self._num_numbered

    def split(self, text: str, path: Path) -> tuple[str, ...]:
        """Return the text between the marks. Raises RequestError where one is lost, doubled or swapped."""
        pieces = []
        for number, slot in enumerate(self._slots, 1):
            before, mark, text = text.partition(slot)
            if not mark or slot in text:
                fault = "doubled" if mark else "missing or out of order"
                raise RequestError(
                    f"chat template {path}: image {number} of {len(self._slots)} is {fault}: "
                    "must write `part.slot` of every image once and in order"
                )
            pieces.append(before)
        return (*pieces, text)


def _view(message: Message, parts: Sequence[Placed], slots: _Slots) -> dict[str, Any]:
    """Return a message as a template sees it."""
    content: list[dict[str, Any]] = []
    for before, part in zip((None, *parts), parts, strict=False):
        after_text = isinstance(before, PlacedText)
        if isinstance(part, PlacedText):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part.part, FramePart):
            content += _frame(part.part, slots, after_text=after_text)
        else:
            image = {"slot": slots.next(), "number": slots.number(), "by_hand": part.by_hand}
            content.append({"type": "image", "after_text": after_text, **image})
    num_images = sum(isinstance(part, PlacedImage) and isinstance(part.part, ImagePart) for part in parts)
    return {
        "role": message.role,
        "content": content,
        "num_images": num_images,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
    }


def _frame(part: FramePart, slots: _Slots, *, after_text: bool) -> list[dict[str, Any]]:
    """Return a frame on a line of its own, behind its label."""
    return [
        {"type": "text", "text": ("\n" if after_text else "") + part.label},
        {"type": "image", "slot": slots.next(), "number": 0, "by_hand": True, "after_text": True},
        {"type": "text", "text": "\n"},
    ]


def plain_json(value: Any, indent: int | None = None) -> str:
    """`tojson` of templates: as transformers', without escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(text: str) -> NoReturn:
    """`raise_exception` of templates."""
    raise RequestError(f"chat template: {text}")
