"""What the tools of a chat body mean: for the prompt, for the grammar, for reading the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deployer.generation.field_names import FieldNames
from deployer.generation.tool_grammar import special_ids, tool_grammar
from deployer.generation.tool_parser import ToolParser
from deployer.prompt.messages import ToolSpec
from deployer.prompt.tool_format import ToolFormat
from deployer.serve.api_errors import invalid
from deployer.serve.openai_types import ChatBody
from deployer.serve.service import Service
from deployer.serve.tool_types import NamedTool


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolUse:
    """Tools of one request."""

    specs: tuple[ToolSpec, ...] = ()  # for the prompt
    form: ToolFormat | None = None  # how calls are read from the answer; None: they are not looked for
    grammar: str | None = None  # what the answer must follow; None: the model is free
    must_call: bool = False  # the answer is one call or several, and no text
    shown_ids: frozenset[int] = frozenset()  # control tokens that calls are written with

    def parser(self) -> ToolParser | None:
        """Return what reads calls out of one answer; None: they are not looked for."""
        return None if self.form is None else ToolParser(self.form, must_call=self.must_call)


async def tool_use(service: Service, body: ChatBody, names: FieldNames) -> ToolUse:
    """Return what a body's tools mean. Raises ApiError or InvalidFieldError."""
    tools, choice = body.tools or [], body.tool_choice
    if not tools:
        if choice not in (None, "none"):
            raise invalid("`tool_choice` needs `tools`", param="tool_choice")
        if body.parallel_tool_calls is not None:
            raise invalid(f"`{names.one_call}` needs `tools`", param=names.one_call)
        return ToolUse()
    functions = [tool.function.name for tool in tools]
    if len(set(functions)) != len(functions):
        raise invalid("`tools`: two functions have the same name", param="tools")
    specs = tuple(tool.model_dump(exclude_none=True) for tool in tools)
    form = service.prompts.tool_format
    if form is None or choice == "none":  # without a format the prompt is refused by its template
        return ToolUse(specs=specs)
    _check_form(body, names)
    return ToolUse(
        specs=specs,
        form=form,
        grammar=await _grammar(service, body, form, names),
        must_call=body.tool_choice not in (None, "auto"),
        shown_ids=special_ids(form, service.prompts.tokenizer),
    )


def _check_form(body: ChatBody, names: FieldNames) -> None:
    if body.response_format is not None and body.response_format.type != "text":
        raise invalid(
            f"`{names.form}` beside `tools`: an answer is a call or has a form; set `{names.no_calls}` or "
            "drop one of them",
            param=names.form,
        )


async def _grammar(service: Service, body: ChatBody, form: ToolFormat, names: FieldNames) -> str | None:
    """Return the grammar that `tool_choice`, and in free answers `strict`, ask for."""
    functions = [tool.function for tool in body.tools or []]
    several = body.parallel_tool_calls is not False
    may_write_text = False
    if isinstance(body.tool_choice, NamedTool):
        name = body.tool_choice.function.name
        functions = [function for function in functions if function.name == name]
        several = False
        if not functions:
            raise invalid(f"`tool_choice`: `{name}` is none of `tools`", param="tool_choice")
    elif body.tool_choice in (None, "auto"):
        may_write_text = True
        if several and not any(function.strict for function in functions):
            return None
    known: Sequence[dict[str, Any]] = [{"name": one.name, "parameters": one.parameters} for one in functions]
    tokenizer = service.prompts.tokenizer
    return await service.beside_the_loop(
        partial(
            tool_grammar,
            known,
            form,
            tokenizer,
            several=several,
            may_write_text=may_write_text,
            names=names,
        )
    )
