"""What a response puts out: items that grow, and the events that tell of it."""

import secrets
from collections.abc import Iterator
from typing import Any

from deployer.generation.tool_parser import CallDelta

Event = dict[str, Any]


class ResponseOutput:
    """The items of one response. Each method yields the events of what it did, without their numbers."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._is_open = False

    def text(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        """Add to the message in hand; a new one is begun behind a call."""
        if not text and not logprobs:
            return
        if not self._is_open or self.items[-1]["type"] != "message":
            yield from self._begin_message()
        part = self.items[-1]["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        yield {
            "type": "response.output_text.delta",
            **self._place(),
            "content_index": 0,
            "delta": text,
            "logprobs": logprobs,
        }

    def call(self, delta: CallDelta) -> Iterator[Event]:
        """Begin a call, or add to the arguments of the one in hand."""
        if delta.name is not None:
            yield from self.close()
            item = {
                "id": f"fc_{secrets.token_hex(12)}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": delta.id,
                "name": delta.name,
                "arguments": "",
            }
            yield from self._begin(item)
        if delta.arguments:
            self.items[-1]["arguments"] += delta.arguments
            yield {
                "type": "response.function_call_arguments.delta",
                **self._place(),
                "delta": delta.arguments,
            }

    def end(self, *, is_complete: bool) -> Iterator[Event]:
        """Close what is open; an answer without any item is an empty message."""
        if not self.items:
            yield from self._begin_message()
        yield from self.close(status="completed" if is_complete else "incomplete")

    def close(self, *, status: str = "completed") -> Iterator[Event]:
        """End the item in hand, if there is one."""
        if not self._is_open:
            return
        item, self._is_open = self.items[-1], False
        item["status"] = status
        place = {"output_index": len(self.items) - 1, "item_id": item["id"]}
        if item["type"] == "message":
            part = item["content"][0]
            at = {**place, "content_index": 0}
            done = {"text": part["text"], "logprobs": part["logprobs"]}
            yield {"type": "response.output_text.done", **at, **done}
            yield {"type": "response.content_part.done", **at, "part": part}
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **place, **done}
        yield {"type": "response.output_item.done", "output_index": place["output_index"], "item": item}

    def _begin_message(self) -> Iterator[Event]:
        yield from self.close()
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item: dict[str, Any] = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        yield from self._begin(item)
        yield {"type": "response.content_part.added", **self._place(), "content_index": 0, "part": dict(part)}
        item["content"] = [part]

    def _begin(self, item: dict[str, Any]) -> Iterator[Event]:
        self.items.append(item)
        self._is_open = True
        shown = {key: list(value) if isinstance(value, list) else value for key, value in item.items()}
        yield {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": shown}

    def _place(self) -> dict[str, Any]:
        return {"output_index": len(self.items) - 1, "item_id": self.items[-1]["id"]}
