"""A body of /v1/responses as the chat body that means the same: one way into the model for both."""

from collections.abc import Sequence
from typing import Any

from deployer.generation.field_names import FieldNames
from deployer.serve import message_types as messages
from deployer.serve import openai_types as chat
from deployer.serve import response_types as api
from deployer.serve import tool_types
from deployer.serve.api_errors import invalid
from deployer.serve.tool_history import ToolHistory

NAMES = FieldNames(
    form="text.format",
    schema="schema",
    parameters="parameters",
    max_tokens="max_output_tokens",
    no_calls="tool_choice: none",
    one_call="parallel_tool_calls",
)


def chat_body(body: api.ResponseBody, earlier: Sequence[messages.Message]) -> chat.ChatBody:
    """Return what to ask; `earlier` is the conversation of the previous response. Raises ApiError."""
    with_logprobs = "message.output_text.logprobs" in (body.include or ()) or body.top_logprobs is not None
    if with_logprobs and body.tools:
        raise invalid("log-probabilities beside `tools` are not served in this version", param="include")
    return chat.ChatBody.model_validate(
        {
            **_prompt(body, earlier),
            "stream": body.stream,
            "max_completion_tokens": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "logprobs": with_logprobs or None,
            "top_logprobs": body.top_logprobs,
            "user": body.user or body.safety_identifier,
            "metadata": body.metadata,
        }
    )


def counted_body(body: api.PromptBody, earlier: Sequence[messages.Message]) -> chat.ChatBody:
    """Return the chat whose prompt is counted. Raises ApiError."""
    return chat.ChatBody.model_validate(_prompt(body, earlier))


def _prompt(body: api.PromptBody, earlier: Sequence[messages.Message]) -> dict[str, Any]:
    return {
        "model": body.model,
        "messages": messages_of(body, earlier),
        **_tools(body),
        "response_format": _form(body.text),
    }


def messages_of(body: api.PromptBody, earlier: Sequence[messages.Message]) -> list[messages.Message]:
    """Return the whole conversation; instructions are of this response alone and come first."""
    _check_calls(earlier, () if isinstance(body.input, str) else body.input)
    found = list(earlier)
    for message in items_to_messages(body.input):
        _append(found, message)
    if body.instructions is not None:
        found.insert(0, _turn(role="system", content=body.instructions))
    return found


def _check_calls(earlier: Sequence[messages.Message], items: Sequence[api.Item]) -> None:
    """Raise ApiError 400 where calls and their results do not fit each other."""
    history = ToolHistory()
    for call in (earlier[-1].tool_calls or ()) if earlier else ():
        history.call(call.id, at="previous_response_id")
    for place, item in enumerate(items):
        if isinstance(item, api.CallItem):
            history.call(item.call_id, at=f"input[{place}].call_id")
        elif isinstance(item, api.CallOutputItem):
            history.result(item.call_id, at=f"input[{place}].call_id")
        elif item.role != "assistant":  # whose words may stand behind its calls
            history.turn()
    history.turn()


def items_to_messages(given: str | Sequence[api.Item]) -> list[messages.Message]:
    """Return items as messages; calls that follow a text or each other are one turn.

    Pictures among results of calls stand at the beginning of the user's turn behind them: a result is text.
    """
    if isinstance(given, str):
        return [_turn(role="user", content=given)]
    found: list[messages.Message] = []
    shown: list[messages.Part] = []
    for item in given:
        message = _message(item)
        if isinstance(item, api.CallOutputItem):
            shown += _pictures(item)
        elif shown and message.role == "user":
            message, shown = message.model_copy(update={"content": [*shown, *_as_parts(message)]}), []
        elif shown:
            found.append(_turn(role="user", content=shown))
            shown = []
        _append(found, message)
    return [*found, _turn(role="user", content=shown)] if shown else found


def _turn(**fields: Any) -> messages.Message:
    return messages.Message.model_validate(fields)


def _append(found: list[messages.Message], message: messages.Message) -> None:
    last = found[-1] if found else None
    if message.role != "assistant" or last is None or last.role != "assistant":
        found.append(message)
    elif message.tool_calls:
        calls = [*(last.tool_calls or ()), *message.tool_calls]
        found[-1] = last.model_copy(update={"tool_calls": calls})
    elif last.tool_calls:  # words behind calls; templates write them in front
        found[-1] = last.model_copy(update={"content": [*_as_parts(last), *_as_parts(message)]})
    else:
        found.append(message)


def _as_parts(message: messages.Message) -> list[messages.Part]:
    content = message.content
    return [messages.TextPart(type="text", text=content)] if isinstance(content, str) else content or []


def _message(item: api.Item) -> messages.Message:
    if isinstance(item, api.MessageItem):
        return _turn(role=item.role, content=_content(item.content))
    if isinstance(item, api.CallItem):
        function = tool_types.CalledFunction(name=item.name, arguments=item.arguments)
        call = tool_types.ToolCall(id=item.call_id, function=function)
        return _turn(role="assistant", tool_calls=[call])
    given = item.output
    texts = given if isinstance(given, str) else [one for one in given if not isinstance(one, api.InputImage)]
    return _turn(role="tool", tool_call_id=item.call_id, content=_content(texts or ""))


def _pictures(item: api.CallOutputItem) -> list[messages.Part]:
    return [_part(one) for one in item.output if isinstance(one, api.InputImage)]


def _content(content: str | Sequence[api.Part]) -> str | list[messages.Part]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: api.Part) -> messages.Part:
    if isinstance(part, api.InputImage):
        own = part.model_dump(exclude={"type", "image_url", "file_id"})
        url = messages.ImageUrl(url=part.image_url, **own)
        return messages.ImagePart(type="image_url", image_url=url)
    return messages.TextPart(type="text", text=part.text)


def _chat_tools(body: api.PromptBody) -> list[tool_types.Tool] | None:
    """Return the functions as chat has them; OpenAI's Responses are strict where nothing is said."""
    if body.tools is None:
        return None
    return [
        tool_types.Tool(
            type="function",
            function=tool_types.Function(
                name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
            ),
        )
        for tool in body.tools
    ]


def _tools(body: api.PromptBody) -> dict[str, Any]:
    choice: Any = body.tool_choice
    if not body.tools and choice in (None, "auto", "none"):  # OpenAI's defaults, which clients spell out
        return {}
    if isinstance(choice, api.NamedResponseTool):
        choice = tool_types.NamedTool(type="function", function=tool_types.NamedFunction(name=choice.name))
    return {
        "tools": _chat_tools(body),
        "tool_choice": choice,
        "parallel_tool_calls": body.parallel_tool_calls,
    }


def _form(text: api.TextOptions | None) -> chat.ResponseFormat | None:
    form = None if text is None else text.format
    if form is None:
        return None
    if form.type != "json_schema":
        return chat.ResponseFormat(type=form.type)
    schema = form.model_dump(by_alias=True, exclude={"type"})
    return chat.ResponseFormat.model_validate({"type": form.type, "json_schema": schema})
