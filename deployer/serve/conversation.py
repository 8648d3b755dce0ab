"""Messages of a checked body to the plain values that prompts are made of."""

import json
from collections.abc import Sequence

from deployer.prompt.messages import ImagePart, Message, TextPart, ToolCall
from deployer.prompt.messages import Part as PromptPart
from deployer.serve import message_types as api
from deployer.serve import tool_types
from deployer.serve.api_errors import invalid
from deployer.serve.tool_history import ToolHistory
from deployer.serve.video_body import MediaBounds


def conversation(
    messages: Sequence[api.Message], *, bounds: MediaBounds | None = None, may_end_with_calls: bool = False
) -> list[Message]:
    """Return the conversation; `developer` is another word for `system`. Raises ApiError.

    `bounds`: of all pictures and videos that say nothing of their own. `may_end_with_calls`: no answer is
    asked for, so that the last calls need no results.
    """
    history = ToolHistory()
    functions: dict[str, str] = {}  # that the last calls are of, by the id of the call
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        if message.tool_call_id is not None:
            history.result(message.tool_call_id, at=f"{at}.tool_call_id")
            _check_name(message, functions[message.tool_call_id], at=f"{at}.name")
            continue
        history.turn()
        for number, call in enumerate(message.tool_calls or ()):
            history.call(call.id, at=f"{at}.tool_calls[{number}].id")
            functions[call.id] = call.function.name
    if not may_end_with_calls:
        history.turn()
    return [_message(message, bounds) for message in messages]


def _check_name(result: api.Message, function: str, *, at: str) -> None:
    if result.name not in (None, function):
        raise invalid(
            f"`{at}`: call `{result.tool_call_id}` is of the function `{function}`, not of `{result.name}`: "
            "must be the call's; leave it out",
            param=at,
        )


def _message(message: api.Message, bounds: MediaBounds | None) -> Message:
    role = "system" if message.role == "developer" else message.role
    parts: tuple[PromptPart, ...]
    if isinstance(message.content, str):
        parts = (TextPart(text=message.content),)
    else:
        parts = tuple(_part(part, bounds) for part in message.content or ())
    calls = tuple(_call(call) for call in message.tool_calls or ())
    return Message(role=role, parts=parts, tool_calls=calls, tool_call_id=message.tool_call_id)


def _call(call: tool_types.ToolCall) -> ToolCall:
    """Return a call; arguments that a model wrote wrong go back to it as they are, under one key."""
    written = call.function.arguments
    try:
        found = json.loads(written or "{}")
    except ValueError:
        found = None
    arguments = found if isinstance(found, dict) else {tool_types.NOT_AN_OBJECT: written}
    return ToolCall(id=call.id, name=call.function.name, arguments=arguments)


def _part(part: api.TextPart | api.ImagePart | api.VideoPart, bounds: MediaBounds | None) -> PromptPart:
    if isinstance(part, api.TextPart):
        return TextPart(text=part.text)
    if isinstance(part, api.VideoPart):
        return part.video_url.part(bounds)
    return ImagePart(source=part.image_url.url, fineness=part.image_url.fineness(bounds))
