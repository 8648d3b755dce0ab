"""The chat template that a checkpoint brings (`chat_template=from_checkpoint`), as transformers renders it.

It stands in chat_template.jinja, chat_template.json or tokenizer_config.json. It sees messages as
{role, content}: a string, or parts {type: "text", text}, {type: "image"} and {type: "video"} where there are
pictures. It writes the model's own token for each; a text of a client that holds one is refused.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deployer.counted import counted
from deployer.errors import ConfigError
from deployer.prompt.chat import Rendered, plain_json
from deployer.prompt.control_tokens import read_json
from deployer.prompt.messages import Message, TextPart, ToolSpec
from deployer.prompt.placement import Placed, PlacedImage, PlacedText, place
from deployer.prompt.seen_video import ClipPart, FramePart
from deployer.prompt.tool_format import told_format
from engines.errors import RequestError

ORIGIN = "chat_template=from_checkpoint"


class CheckpointTemplate:
    """One checkpoint's template, tried out when it is loaded. Its stop words are the checkpoint's eos ids."""

    stop_words: tuple[str, ...] = ()
    image_token: str | None = None  # the id stands in config.json
    bos_each_piece = False

    def __init__(
        self,
        folder: Path,
        *,
        bos_token: str,
        eos_token: str,
        image_marker: str | None,
        video_marker: str | None = None,
    ) -> None:
        """`image_marker`: what it writes for a picture; None for a text model. Raises ConfigError.

        `video_marker`: likewise for a video; None where there is none.
        """
        self._names = {"bos_token": bos_token, "eos_token": eos_token}
        self._markers = {
            kind: marker for kind, marker in (("image", image_marker), ("video", video_marker)) if marker
        }
        text, self._path = _find(folder)
        self._template = _load(text, self._path)
        self.tool_format = told_format(text)
        trial = Message.of("user", "text", b"picture") if image_marker else Message.of("user", "text")
        try:
            self.render([trial], system=None, add_generation_prompt=True)
        except RequestError as error:
            raise ConfigError([f"{ORIGIN}: {error}; choose one of ours"]) from error

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
        self._check_markers(messages)
        views = [_view(message, parts) for message, parts in zip(messages, placed, strict=True)]
        if system and (not views or views[0]["role"] != "system"):
            views = [{"role": "system", "content": system}, *views]
        try:
            text = self._template.render(
                messages=views,
                tools=list(tools) or None,
                add_generation_prompt=add_generation_prompt,
                raise_exception=_refuse,
                strftime_now=lambda how: datetime.now().strftime(how),
                **self._names,
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise RequestError(f"chat template {self._path}: {error}") from error
        pieces, written = self._split(text)
        kinds = ["video" if isinstance(image, ClipPart) else "image" for image in images]
        if written != kinds:
            shown = " and ".join(
                f"`{marker}` {counted(written.count(kind), 'time')} for {counted(kinds.count(kind), kind)}"
                for kind, marker in self._markers.items()
            )
            raise RequestError(f"chat template {self._path} wrote {shown}: must be once each, in their order")
        return Rendered(pieces=tuple(pieces), images=tuple(images))

    def _split(self, text: str) -> tuple[list[str], list[str]]:
        """Return the text around the markers, and what each stands for."""
        if not self._markers:
            return [text], []
        kind_of = {marker: kind for kind, marker in self._markers.items()}
        parts = re.split("(" + "|".join(map(re.escape, kind_of)) + ")", text)
        return parts[::2], [kind_of[marker] for marker in parts[1::2]]

    def _check_markers(self, messages: Sequence[Message]) -> None:
        for position, message in enumerate(messages):
            texts = [part.text for part in message.parts if isinstance(part, TextPart)]
            held = [marker for marker in self._markers.values() if any(marker in text for text in texts)]
            if held:
                raise RequestError(
                    f"message {position + 1} holds `{held[0]}`, which stands for a picture in this "
                    "model's prompts: send pictures as image parts, or write `<IMAGE_TOKEN>` where they go"
                )


def template_file(folder: Path) -> Path:
    """Return the file that holds the checkpoint's template. Raises ConfigError."""
    return _find(folder)[1]


def _load(text: str, path: Path) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = plain_json
    try:
        return environment.from_string(text)
    except TemplateSyntaxError as error:
        raise ConfigError(
            [f"{ORIGIN}: {path}, line {error.lineno} of the template: {error.message}"]
        ) from error


def _find(folder: Path) -> tuple[str, Path]:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8"), file
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _default(read_json(folder / name).get("chat_template"))
        if found is not None:
            return found, folder / name
    raise ConfigError(
        [
            f"{ORIGIN}: {folder} has no chat template (chat_template.jinja, or `chat_template` in "
            "tokenizer_config.json): choose one of ours, chat_template=<name>"
        ]
    )


def _default(value: Any) -> str | None:
    """Return the template, or of several with names the one called default."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _view(message: Message, parts: Sequence[Placed]) -> dict[str, Any]:
    """Return a message as transformers gives it to a template."""
    view: dict[str, Any] = {"role": message.role, "content": _content(parts)}
    if message.tool_calls:
        view["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        view["tool_call_id"] = message.tool_call_id
    return view


def _content(parts: Sequence[Placed]) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, PlacedImage) for part in parts):
        return "".join(part.text for part in parts if not isinstance(part, PlacedImage))
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, PlacedText):
            content.append({"type": "text", "text": part.text})
            continue
        if isinstance(part.part, FramePart):
            content.append({"type": "text", "text": part.part.label})
        content.append({"type": "video" if isinstance(part.part, ClipPart) else "image"})
    return content


def _refuse(text: str) -> NoReturn:
    """`raise_exception` of templates."""
    raise RequestError(f"chat template: {text}")
