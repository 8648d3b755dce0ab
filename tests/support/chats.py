"""Chats with a server under test, streamed and not."""

import json
from typing import Any

import httpx
from fake_engine import FakeEngine
from fake_prompts import IMAGE_ID

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


def named_events(reply: httpx.Response) -> list[dict[str, Any]]:
    """Return the data of a stream whose events have names; each says its own as its type too."""
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    found = []
    for event in reply.text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def prompt_of(engine: FakeEngine, place: int = -1) -> str:
    """Return the text of a prompt that the engine was given, slots of pictures left out."""
    ids = engine.submits[place].token_ids
    return bytes(token_id for token_id in ids if token_id != IMAGE_ID).decode()
