"""Answers that may call tools: a message with its calls, or the deltas of a stream."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deployer.generation.generate import Finish, Piece
from deployer.generation.tool_parser import CallDelta, ParsedDelta, ToolParser
from deployer.prompt.tool_format import ToolFormat


def tool_message(
    pieces: Sequence[Piece], finish: Finish, form: ToolFormat, *, must_call: bool
) -> tuple[dict[str, Any], int]:
    """Return the assistant's message, and how many calls it makes."""
    parser = ToolParser(form, must_call=must_call)
    found = [parser.feed("".join(piece.text for piece in pieces)), parser.finish(is_cut=was_cut(finish))]
    content = "".join(delta.content for delta in found)
    calls: dict[int, dict[str, Any]] = {}
    for one in (call for delta in found for call in delta.calls):
        if one.name is not None:
            function = {"name": one.name, "arguments": ""}
            calls[one.index] = {"id": one.id, "type": "function", "function": function}
        calls[one.index]["function"]["arguments"] += one.arguments
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content or (None if calls or must_call else ""),
    }
    if calls:
        message["tool_calls"] = list(calls.values())
    return message, len(calls)


class ToolStream:
    """The deltas of the choices of one stream."""

    def __init__(self, form: ToolFormat, *, num_choices: int, must_call: bool) -> None:
        self._parsers = [ToolParser(form, must_call=must_call) for _ in range(num_choices)]

    def delta(self, piece: Piece) -> tuple[bytes, str | None]:
        """Return the JSON field of a piece's delta, and why its choice ended."""
        parser = self._parsers[piece.choice]
        found = parser.feed(piece.text)
        if piece.finish is not None:
            rest = parser.finish(is_cut=was_cut(piece.finish))
            found = ParsedDelta(content=found.content + rest.content, calls=[*found.calls, *rest.calls])
        delta: dict[str, Any] = {}
        if found.content:
            delta["content"] = found.content
        if found.calls:
            delta["tool_calls"] = [_call(call) for call in found.calls]
        reason = None if piece.finish is None else ended(piece.finish, num_calls=parser.num_calls)
        return b'"delta":' + msgspec.json.encode(delta), reason


def ended(finish: Finish, *, num_calls: int) -> str:
    """Return why a choice ended: an answer that ended by itself and calls tools ended for their sake."""
    return "tool_calls" if num_calls and finish.reason == "stop" else finish.reason


def was_cut(finish: Finish) -> bool:
    """Tell whether an answer would have gone on but for its length or a stop string."""
    return finish.reason == "length" or isinstance(finish.stop_reason, str)


def _call(call: CallDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": call.arguments}
    if call.name is None:
        return {"index": call.index, "function": function}
    function = {"name": call.name, **function}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}
