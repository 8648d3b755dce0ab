"""Fields of /v1/chat/completions and what they do, streamed and not."""

import json
from typing import Any

import httpx
from fake_engine import FakeEngine

ASK = {"messages": [{"role": "user", "content": "What is it?"}]}


async def chat(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    reply = await api.post("/v1/chat/completions", json={**ASK, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def chunks(api: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    reply = await api.post("/v1/chat/completions", json={**ASK, "stream": True, **fields})
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    events = reply.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


async def test_an_answer_has_openai_s_shape(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await chat(api)
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    assert answer["id"].startswith("chatcmpl-")
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "It is a red circle."}
    assert (choice["finish_reason"], choice["stop_reason"], choice["logprobs"]) == ("stop", None, None)
    assert answer["usage"]["prompt_tokens"] == len(engine.submits[0].token_ids)
    assert answer["usage"]["completion_tokens"] == 19


async def test_a_stream_opens_with_the_role_and_adds_up_to_the_answer(api: httpx.AsyncClient) -> None:
    found = await chunks(api)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in found) == "It is a red circle."
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert {c["object"] for c in found} == {"chat.completion.chunk"}
    assert len({c["id"] for c in found}) == 1
    assert all("usage" not in c for c in found)
