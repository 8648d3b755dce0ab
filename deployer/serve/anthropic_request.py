"""A body of /v1/messages as the chat body that means the same: one way into the model for both.

Turns of one role that follow each other are one. A turn's results of tools come first and are messages of
their own; pictures in them stand at the beginning of the user's part behind them, since a result is text.
Text of an assistant's turn stands in front of its calls, and a document is its text.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from deployer.generation.field_names import FieldNames
from deployer.serve import anthropic_blocks as blocks
from deployer.serve import anthropic_body as api
from deployer.serve.api_errors import ApiError, ApiFault, invalid
from deployer.serve.fineness_body import Bounds
from deployer.serve.message_types import Message
from deployer.serve.openai_types import ChatBody
from deployer.serve.tool_history import ToolHistory
from deployer.serve.tool_types import Tool

Part = dict[str, Any]  # of a chat's message
Block = (
    blocks.TextBlock | blocks.ImageBlock | blocks.DocumentBlock | blocks.ToolUseBlock | blocks.ToolResultBlock
)
Placed = tuple[str, Block]  # where it stands in the body, for errors

NAMES = FieldNames(
    form="output_config.format",
    schema="schema",
    parameters="input_schema",
    max_tokens="max_tokens",
    no_calls='tool_choice: {"type": "none"}',
    one_call="tool_choice.disable_parallel_tool_use",
)
FAILED = "Error: "  # in front of a result that `is_error`: templates know no other way to tell
_CHOICES = {"any": "required", "auto": "auto", "none": "none"}


def chat_body(body: api.CountBody) -> ChatBody:
    """Return what to ask. Raises ApiError."""
    if body.thread is not None:
        raise _no_threads()
    choice = body.tool_choice
    form = None if body.output_config is None else body.output_config.format
    return ChatBody.model_validate(
        {
            "model": body.model,
            "messages": _messages(body),
            "stream": body.stream,
            "max_tokens": body.max_tokens,
            "temperature": body.temperature,
            "top_k": body.top_k,
            "top_p": body.top_p,
            "stop": body.stop_sequences,
            "user": None if body.metadata is None else body.metadata.user_id,
            "tools": _chat_tools(body),
            "tool_choice": None if choice is None else _choice(choice),
            "parallel_tool_calls": False if choice is not None and choice.disable_parallel_tool_use else None,
            "response_format": None
            if form is None
            else {"type": "json_schema", "json_schema": {"schema": form.schema_}},
        }
    )


def _no_threads() -> ApiError:
    """Return the refusal of a conversation that the server keeps.

    The `anthropic` package reads `details` and sends the whole conversation in its place.
    """
    return ApiError(
        ApiFault(
            status=400,
            message="`thread`: conversations are not kept here: leave it out and send all messages",
            code="thread_unsupported_request",
            param="thread",
            details={"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
        )
    )


def _chat_tools(body: api.CountBody) -> list[Tool] | None:
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


def _messages(body: api.CountBody) -> list[Message]:
    """Return the whole conversation. Raises ApiError."""
    if body.messages[-1].role == "assistant":
        raise invalid(
            "`messages`: the last turn is the assistant's: going on with the beginning of an answer is not "
            "served in this version; end with a turn of the user",
            param="messages",
        )
    found: list[Message] = []
    if body.system is not None:
        system = body.system if isinstance(body.system, str) else [_text(one.text) for one in body.system]
        found.append(_message(role="system", content=system))
    history = ToolHistory()
    for role, placed in _turns(body.messages):
        if role == "user":
            found += _asked(placed, history)
        else:
            history.turn()
            found.append(_answered(placed, history) if role == "assistant" else _told(placed))
    history.turn()
    return found


def _choice(choice: api.ToolWanted) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES[choice.type]


def _turns(messages: Sequence[api.Turn]) -> Iterator[tuple[str, list[Placed]]]:
    """Yield the turns with their blocks; those of one role that follow each other together."""
    role, found = messages[0].role, list[Placed]()
    for place, turn in enumerate(messages):
        if turn.role != role:
            yield role, found
            role, found = turn.role, []
        at = f"messages[{place}].content"
        if isinstance(turn.content, str):
            found.append((at, blocks.TextBlock(type="text", text=turn.content)))
        else:
            found += [(f"{at}[{number}]", block) for number, block in enumerate(turn.content)]
    yield role, found


def _told(placed: Sequence[Placed]) -> Message:
    """Return instructions that come later."""
    return _message(role="system", content=[part for _, block in placed for part in _parts(block)])


def _answered(placed: Sequence[Placed], history: ToolHistory) -> Message:
    """Return an assistant's turn: a text, and behind it calls, as templates write them."""
    parts: list[Part] = []
    calls: list[dict[str, Any]] = []
    for at, block in placed:
        if isinstance(block, blocks.ToolUseBlock):
            history.call(block.id, at=f"{at}.id")
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            parts += _parts(block)
    said = parts or (None if calls else "")
    return _message(role="assistant", content=said, tool_calls=calls or None)


def _asked(placed: Sequence[Placed], history: ToolHistory) -> Iterator[Message]:
    """Yield a user's turn: results of calls, then what is said and shown."""
    parts: list[Part] = []
    shown: list[Part] = []
    for at, block in placed:
        if not isinstance(block, blocks.ToolResultBlock):
            parts += _parts(block)
            continue
        if parts:
            raise invalid(f"`{at}`: results of tools must come first in a turn", param=at)
        history.result(block.tool_use_id, at=f"{at}.tool_use_id")
        texts, pictures = _result(block)
        yield _message(role="tool", tool_call_id=block.tool_use_id, content=texts)
        shown += pictures
    history.turn()
    if shown or parts:
        yield _message(role="user", content=[*shown, *parts])


def _result(block: blocks.ToolResultBlock) -> tuple[list[Part], list[Part]]:
    """Return the texts of a result, one at least, and its pictures."""
    content = block.content or ""
    if isinstance(content, str):
        parts = [_text(content)]
    else:
        parts = [part for one in content for part in _parts(one)]
    texts = [part for part in parts if part["type"] == "text"]
    if block.is_error:
        texts.insert(0, _text(FAILED))
    return texts or [_text("")], [part for part in parts if part["type"] != "text"]


def _parts(block: Block) -> list[Part]:
    """Return a block as parts of a chat's message."""
    if isinstance(block, blocks.TextBlock):
        return [_text(block.text)]
    if isinstance(block, blocks.DocumentBlock):
        return _document(block)
    assert isinstance(block, blocks.ImageBlock), "calls and results are messages of their own"
    source = block.source
    if isinstance(source, blocks.PictureUrl):
        url = source.url
    else:
        url = f"data:{source.media_type};base64,{source.data}"
    fineness = block.model_dump(include=set(Bounds.model_fields) | {"detail"})
    return [{"type": "image_url", "image_url": {"url": url, **fineness}}]


def _document(block: blocks.DocumentBlock) -> list[Part]:
    """Return a document: title and context, each on a line of its own, what is in it, an empty line."""
    head = [_text(f"{line}\n") for line in (block.title, block.context) if line is not None]
    source = block.source
    if isinstance(source, blocks.PlainText):
        inside = [_text(source.data)]
    elif isinstance(source.content, str):
        inside = [_text(source.content)]
    else:
        inside = [part for one in source.content for part in _parts(one)]
    return [*head, *inside, _text("\n\n")]


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _message(**fields: Any) -> Message:
    return Message.model_validate(fields)
