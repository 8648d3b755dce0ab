"""Questions to `/v1/responses` under test: answers, events, refusals, and parts that several tests send."""

from typing import Any

import httpx
from chats import named_events

PNG = "data:image/png;base64,AAAA"
WARM: dict[str, Any] = {"type": "function", "name": "warm", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "warm", "arguments": {"at": "Oslo"}}\n</tool_call>'


async def respond(api: httpx.AsyncClient, given: Any, **fields: Any) -> dict[str, Any]:
    """Return the response."""
    reply = await api.post("/v1/responses", json={"input": given, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def events_of(api: httpx.AsyncClient, given: Any, **fields: Any) -> list[dict[str, Any]]:
    """Return the events of the streamed response."""
    found = named_events(await api.post("/v1/responses", json={"input": given, "stream": True, **fields}))
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


async def refused(api: httpx.AsyncClient, status: int, **body: Any) -> dict[str, Any]:
    """Return the error that a body is refused with."""
    reply = await api.post("/v1/responses", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()["error"]
