"""What a message puts out: blocks that grow, and Anthropic's events that tell of it."""

from collections.abc import Iterator
from typing import Any

import pydantic_core

from deployer.generation.tool_parser import CallDelta
from deployer.serve.tool_types import NOT_AN_OBJECT

Event = dict[str, Any]


class MessageOutput:
    """The blocks of one message. Each method yields the events of what it did."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._arguments: list[str] = []  # JSON of each block's input as it was written; "" for a text
        self._is_open = False

    def text(self, text: str) -> Iterator[Event]:
        """Add to the text in hand; a new one is begun behind a call."""
        if not text:
            return
        if not self._is_open or self._blocks[-1]["type"] != "text":
            yield from self._begin({"type": "text", "text": ""})
        self._blocks[-1]["text"] += text
        yield self._delta({"type": "text_delta", "text": text})

    def call(self, delta: CallDelta) -> Iterator[Event]:
        """Begin a call, or add to the input of the one in hand."""
        if delta.name is not None:
            yield from self._begin({"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}})
        if delta.arguments:
            self._arguments[-1] += delta.arguments
            yield self._delta({"type": "input_json_delta", "partial_json": delta.arguments})

    def end(self) -> Iterator[Event]:
        """Close what is open."""
        if self._is_open:
            self._is_open = False
            yield {"type": "content_block_stop", "index": len(self._blocks) - 1}

    def content(self) -> list[dict[str, Any]]:
        """Return the blocks as they are now; of a call that was cut, as much of its input as came."""
        return [
            block if block["type"] == "text" else {**block, "input": _input(written)}
            for block, written in zip(self._blocks, self._arguments, strict=True)
        ]

    @property
    def num_calls(self) -> int:
        """How many of the blocks are calls."""
        return sum(block["type"] == "tool_use" for block in self._blocks)

    def _begin(self, block: dict[str, Any]) -> Iterator[Event]:
        yield from self.end()
        self._blocks.append(block)
        self._arguments.append("")
        self._is_open = True
        yield {
            "type": "content_block_start",
            "index": len(self._blocks) - 1,
            "content_block": dict(block),
        }

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}


def _input(written: str) -> dict[str, Any]:
    """Return the arguments of a call: an object, which a model that is free to call need not have written."""
    try:
        found = pydantic_core.from_json(written or "{}", allow_partial="trailing-strings")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {NOT_AN_OBJECT: written}
