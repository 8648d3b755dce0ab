"""Questions to `/v1/messages` under test: bodies, answers, events, refusals, parts of several tests."""

from typing import Any

import httpx
from chats import named_events

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
WARM: dict[str, Any] = {"name": "warm", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "warm", "arguments": {"at": "Oslo"}}\n</tool_call>'
USE: dict[str, Any] = {"type": "tool_use", "id": "c1", "name": "warm", "input": {"at": "Oslo"}}
LAST = {"role": "assistant", "content": "It is"}
ASKED = {"role": "user", "content": "q"}


def body_of(content: Any, **fields: Any) -> dict[str, Any]:
    """Return a body of turns, or of one question."""
    turns = content if isinstance(content, list) and "role" in content[0] else None
    turns = turns or [{"role": "user", "content": content}]
    return {"model": "tiny", "max_tokens": 128, "messages": turns, **fields}


async def said(api: httpx.AsyncClient, content: Any, **fields: Any) -> dict[str, Any]:
    """Return the answer."""
    reply = await api.post("/v1/messages", json=body_of(content, **fields))
    assert reply.status_code == 200, reply.text
    return reply.json()


async def events_of(api: httpx.AsyncClient, content: Any, **fields: Any) -> list[dict[str, Any]]:
    """Return the events of the streamed answer."""
    return named_events(await api.post("/v1/messages", json=body_of(content, stream=True, **fields)))


async def refused(api: httpx.AsyncClient, status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return the error that a body is refused with."""
    reply = await api.post("/v1/messages", json=body)
    assert reply.status_code == status, reply.text
    found = reply.json()
    assert (found["type"], found["request_id"]) == ("error", reply.headers["request-id"])
    return found["error"]
