"""A body of /v1/messages as the chat body that means the same: one way into the model for both.

Turns of one role that follow each other are one. A turn's results of tools come first and are messages of
their own; pictures in them stand at the beginning of the user's part behind them, since a result is text.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from deployer.serve import anthropic_blocks as blocks
from deployer.serve import anthropic_body as api
from deployer.serve.api_errors import invalid
from deployer.serve.message_types import Message
from deployer.serve.openai_types import ChatBody
from deployer.serve.tool_types import Tool

Block = blocks.TextBlock | blocks.ImageBlock | blocks.ToolUseBlock | blocks.ToolResultBlock
Placed = tuple[str, Block]  # where it stands in the body, for errors

FAILED = "Error: "  # in front of a result that `is_error`: templates know no other way to tell
_CHOICES = {"any": "required", "auto": "auto", "none": "none"}


def chat_body(body: api.MessagesBody) -> ChatBody:
    """Return what to ask. Raises ApiError."""
    choice = body.tool_choice
    form = None if body.output_config is None else body.output_config.format
    return ChatBody.model_validate(
        {
            "model": body.model,
            "messages": messages_of(body),
            "stream": body.stream,
            "max_tokens": body.max_tokens,
            "temperature": body.temperature,
            "top_k": body.top_k,
            "top_p": body.top_p,
            "stop": body.stop_sequences,
            "user": None if body.metadata is None else body.metadata.user_id,
            "tools": chat_tools(body),
            "tool_choice": None if choice is None else _choice(choice),
            "parallel_tool_calls": False if choice is not None and choice.disable_parallel_tool_use else None,
            "response_format": None
            if form is None
            else {"type": "json_schema", "json_schema": {"schema": form.schema_}},
        }
    )


def chat_tools(body: api.CountBody) -> list[Tool] | None:
    """Return the functions as chat has them."""
    if body.tools is None:
        return None
    return [
        Tool.model_validate(
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                    "strict": tool.strict,
                },
            }
        )
        for tool in body.tools
    ]


def messages_of(body: api.CountBody) -> list[Message]:
    """Return the whole conversation. Raises ApiError."""
    if body.messages[-1].role == "assistant":
        raise invalid(
            "`messages`: the last turn is the assistant's: going on with the beginning of an answer is not "
            "served in this version; end with a turn of the user",
            param="messages",
        )
    found: list[Message] = []
    if body.system is not None:
        system = body.system if isinstance(body.system, str) else [_part(one) for one in body.system]
        found.append(_message(role="system", content=system))
    called: set[str] = set()
    for role, placed in _turns(body.messages):
        found += _answered(placed) if role == "assistant" else _asked(placed, called)
        called |= {one.id for _, one in placed if isinstance(one, blocks.ToolUseBlock)}
    return found


def _choice(choice: api.ToolWanted) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES[choice.type]


def _turns(messages: Sequence[api.UserTurn | api.AssistantTurn]) -> Iterator[tuple[str, list[Placed]]]:
    """Yield the turns with their blocks; those of one role that follow each other together."""
    role, found = messages[0].role, list[Placed]()
    for place, turn in enumerate(messages):
        if turn.role != role:
            yield role, found
            role, found = turn.role, []
        if isinstance(turn.content, str):
            found.append((f"messages[{place}].content", _text(turn.content)))
        else:
            at = f"messages[{place}].content"
            found += [(f"{at}[{number}]", block) for number, block in enumerate(turn.content)]
    yield role, found


def _answered(placed: Sequence[Placed]) -> list[Message]:
    """Return an assistant's turn: a text, and behind it calls."""
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for at, block in placed:
        if isinstance(block, blocks.ToolUseBlock):
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif calls:
            raise invalid(f"`{at}`: must stand in front of the turn's `tool_use` blocks", param=at)
        else:
            parts.append(_part(block))
    said = parts or (None if calls else "")
    return [_message(role="assistant", content=said, tool_calls=calls or None)]


def _asked(placed: Sequence[Placed], called: set[str]) -> Iterator[Message]:
    """Yield a user's turn: results of calls, then what is said and shown."""
    parts: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for at, block in placed:
        if not isinstance(block, blocks.ToolResultBlock):
            parts.append(_part(block))
            continue
        if parts:
            raise invalid(f"`{at}`: results of tools must come first in a turn", param=at)
        if block.tool_use_id not in called:
            raise invalid(
                f"`{at}.tool_use_id`: `{block.tool_use_id}` is no call of an earlier message",
                param=f"{at}.tool_use_id",
            )
        texts, pictures = _result(block)
        yield _message(role="tool", tool_call_id=block.tool_use_id, content=texts)
        shown += pictures
    if shown or parts:
        yield _message(role="user", content=[*shown, *parts])


def _result(block: blocks.ToolResultBlock) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the texts of a result, one at least, and its pictures."""
    content = block.content or ""
    given = [_text(content)] if isinstance(content, str) else content
    texts = [_part(one) for one in given if isinstance(one, blocks.TextBlock)]
    if block.is_error:
        texts.insert(0, {"type": "text", "text": FAILED})
    pictures = [_part(one) for one in given if isinstance(one, blocks.ImageBlock)]
    return texts or [{"type": "text", "text": ""}], pictures


def _part(block: Block) -> dict[str, Any]:
    if isinstance(block, blocks.TextBlock):
        return {"type": "text", "text": block.text}
    assert isinstance(block, blocks.ImageBlock), "calls and results are messages of their own"
    source = block.source
    if isinstance(source, blocks.PictureUrl):
        url = source.url
    else:
        url = f"data:{source.media_type};base64,{source.data}"
    fineness = block.model_dump(exclude={"type", "source", "cache_control"})
    return {"type": "image_url", "image_url": {"url": url, **fineness}}


def _text(text: str) -> blocks.TextBlock:
    return blocks.TextBlock(type="text", text=text, citations=None)


def _message(**fields: Any) -> Message:
    return Message.model_validate(fields)
