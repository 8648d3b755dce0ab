"""Chats with a server under test, streamed and not."""

import json
from typing import Any

import httpx

ASK = {"messages": [{"role": "user", "content": "What is it?"}]}


async def chat(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Return the answer to a question with these fields."""
    reply = await api.post("/v1/chat/completions", json={**ASK, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def chunks(api: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    """Return the events of the stream with these fields."""
    reply = await api.post("/v1/chat/completions", json={**ASK, "stream": True, **fields})
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    events = reply.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


async def streamed(api: httpx.AsyncClient, **fields: Any) -> dict[int, dict[str, Any]]:
    """Put the chunks of a stream together: choice -> text, ends, logprobs."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in await chunks(api, **fields):
        for choice in chunk["choices"]:
            whole = found.setdefault(choice["index"], {"text": "", "ends": [], "logprobs": []})
            whole["text"] += choice["delta"].get("content", "")
            if choice["finish_reason"]:
                whole["ends"].append((choice["finish_reason"], choice["stop_reason"]))
            whole["logprobs"] += (choice["logprobs"] or {"content": []})["content"]
    return found
