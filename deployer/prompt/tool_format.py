"""How a model writes calls of tools, as conf/chat_template/_tool_formats.yaml declares it."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import yaml

from deployer.assets import resource_dir
from deployer.errors import ConfigError
from deployer.prompt.messages import Message, ToolSpec
from engines.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFormat:
    """One format; what each field means stands in the YAML file."""

    told_by: str
    marker: str
    open: str
    close: str
    between: str
    each: bool
    arguments: str
    id_length: int | None


def tool_formats() -> dict[str, ToolFormat]:
    """Return all formats by name."""
    file = resource_dir("conf") / "chat_template" / "_tool_formats.yaml"
    return msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), dict[str, ToolFormat])


def named_format(name: str | None, *, origin: str) -> ToolFormat | None:
    """Return the format that a template names; None for a template that names none. Raises ConfigError."""
    if name is None:
        return None
    known = tool_formats()
    if name not in known:
        listed = ", ".join(f"`{one}`" for one in sorted(known))
        raise ConfigError([f"{origin}: `tool_format` is `{name}`: must be one of {listed}"])
    return known[name]


def told_format(template: str) -> ToolFormat | None:
    """Return the format that a checkpoint's own template writes calls in; None where it knows no tools."""
    if "tools" not in template:
        return None
    return next((one for one in tool_formats().values() if one.told_by in template), None)


def check_tools(
    messages: Sequence[Message], tools: Sequence[ToolSpec], known: ToolFormat | None, *, origin: str
) -> None:
    """Raise RequestError for tools, calls or results in front of a template that knows none."""
    asked = bool(tools) or any(one.role == "tool" or one.tool_calls for one in messages)
    if asked and known is None:
        raise RequestError(
            f"the chat template of this model ({origin}) knows no tools: leave out `tools`, tool calls and "
            "results of tools, or ask for a form of the answer in their place",
            code="tools_not_supported",
        )
