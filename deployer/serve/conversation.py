"""Messages of a checked body to the plain values that prompts are made of."""

import json
from collections.abc import Sequence

from deployer.prompt.messages import ImagePart, Message, TextPart, ToolCall
from deployer.prompt.messages import Part as PromptPart
from deployer.serve import message_types as api
from deployer.serve import tool_types
from deployer.serve.api_errors import invalid
from deployer.serve.fineness_body import Bounds


def conversation(messages: Sequence[api.Message], *, bounds: Bounds | None = None) -> list[Message]:
    """Return the conversation; `developer` is another word for `system`. Raises ApiError.

    `bounds`: of all pictures that say nothing of their own.
    """
    called: set[str] = set()
    found = []
    for place, message in enumerate(messages):
        one = _message(message, place, bounds)
        if one.tool_call_id is not None and one.tool_call_id not in called:
            raise invalid(
                f"`messages[{place}].tool_call_id`: `{one.tool_call_id}` is no call of an earlier message",
                param=f"messages[{place}].tool_call_id",
            )
        called.update(call.id for call in one.tool_calls)
        found.append(one)
    return found


def _message(message: api.Message, place: int, bounds: Bounds | None) -> Message:
    role = "system" if message.role == "developer" else message.role
    parts: tuple[PromptPart, ...]
    if isinstance(message.content, str):
        parts = (TextPart(text=message.content),)
    else:
        parts = tuple(_part(part, bounds) for part in message.content or ())
    calls = tuple(
        _call(call, f"messages[{place}].tool_calls[{number}]")
        for number, call in enumerate(message.tool_calls or ())
    )
    return Message(role=role, parts=parts, tool_calls=calls, tool_call_id=message.tool_call_id)


def _call(call: tool_types.ToolCall, at: str) -> ToolCall:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except ValueError as error:
        raise invalid(f"`{at}.function.arguments` is not JSON: {error}", param=at) from error
    if not isinstance(arguments, dict):
        raise invalid(f"`{at}.function.arguments`: must be a JSON object in a string", param=at)
    return ToolCall(id=call.id, name=call.function.name, arguments=arguments)


def _part(part: api.TextPart | api.ImagePart, bounds: Bounds | None) -> PromptPart:
    if isinstance(part, api.TextPart):
        return TextPart(text=part.text)
    return ImagePart(source=part.image_url.url, fineness=part.image_url.fineness(bounds))
