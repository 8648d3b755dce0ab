"""/v1/responses: answers, events, conversations that go on, forms, and what is kept."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from chats import prompt_of
from fake_engine import FakeEngine, Script
from response_asks import PNG, events_of, refused, respond

from deployer.serve.app import create_app
from deployer.serve.service import Service


async def test_a_text_is_answered_by_a_message(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await respond(api, "What is it?", instructions="Be brief.", metadata={"a": "b"})
    assert (found["object"], found["status"], found["model"]) == ("response", "completed", "tiny")
    (item,) = found["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [
        {"type": "output_text", "text": "It is a red circle.", "annotations": [], "logprobs": []}
    ]
    assert prompt_of(engine) == "system:Be brief.user:What is it?"
    assert found["usage"]["input_tokens"] == len(engine.submits[0].token_ids)
    assert found["usage"]["output_tokens"] == 19
    assert found["metadata"] == {"a": "b"}


async def test_pictures_and_earlier_turns_go_in(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    look = [{"type": "input_image", "image_url": PNG}, {"type": "input_text", "text": "And this?"}]
    given = [
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"role": "user", "content": look},
    ]
    found = await respond(api, given)
    assert prompt_of(engine) == "user:Helloassistant:Hiuser:And this?"
    assert found["usage"]["input_tokens_details"]["image_tokens"] == 4


async def test_a_stream_tells_of_every_step(api: httpx.AsyncClient) -> None:
    found = await events_of(api, "What is it?")
    kinds = [one["type"].removeprefix("response.") for one in found]
    deltas = kinds.count("output_text.delta")
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added",
        *["output_text.delta"] * deltas,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert "".join(one["delta"] for one in found if "delta" in one) == "It is a red circle."
    assert found[0]["response"]["status"] == "in_progress"
    assert found[2]["item"]["content"] == []
    assert found[-1]["response"]["output"][0] == found[-2]["item"]
    assert found[-1]["response"]["usage"]["output_tokens"] == 19


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_cut_is_incomplete(api: httpx.AsyncClient, stream: bool) -> None:
    if stream:
        last = (await events_of(api, "Go", max_output_tokens=3))[-1]
        assert last["type"] == "response.incomplete"
        found = last["response"]
    else:
        found = await respond(api, "Go", max_output_tokens=3)
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert found["output"][0]["status"] == "incomplete"


async def test_a_conversation_goes_on_without_its_old_instructions(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    first = await respond(api, "One", instructions="Old.")
    second = await respond(api, "Two", previous_response_id=first["id"], instructions="New.")
    assert prompt_of(engine) == "system:New.user:Oneassistant:It is a red circle.user:Two"
    assert second["previous_response_id"] == first["id"]


async def test_what_was_not_kept_cannot_go_on(api: httpx.AsyncClient) -> None:
    first = await respond(api, "One", store=False)
    assert first["store"] is False
    error = await refused(api, 400, input="Two", previous_response_id=first["id"])
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")
    assert "is not stored: the last 100000 bytes" in error["message"]


async def test_a_kept_response_is_read_listed_and_forgotten(api: httpx.AsyncClient) -> None:
    made = await respond(api, [{"role": "user", "content": "One"}])
    path = f"/v1/responses/{made['id']}"
    assert (await api.get(path)).json() == made
    items = (await api.get(f"{path}/input_items")).json()
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "One"}]
    assert items["first_id"] == items["data"][0]["id"]
    assert (await api.post(f"{path}/cancel")).status_code == 400
    assert (await api.delete(path)).json() == {"id": made["id"], "object": "response", "deleted": True}
    for reply in (await api.get(path), await api.delete(path), await api.post(f"{path}/cancel")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "response_not_found")


async def test_the_longest_unused_are_forgotten_first(serve: Callable[..., Service]) -> None:
    transport = httpx.ASGITransport(create_app(serve(max_stored_bytes=6_000)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        first = await respond(api, "One")
        second = await respond(api, "Two")
        assert (await api.get(f"/v1/responses/{first['id']}")).status_code == 200
        for _ in range(2):
            await respond(api, "x" * 500)
        assert (await api.get(f"/v1/responses/{second['id']}")).status_code == 404


async def test_nothing_is_kept_where_there_is_no_room(serve: Callable[..., Service]) -> None:
    transport = httpx.ASGITransport(create_app(serve(max_stored_bytes=0)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        assert (await respond(api, "One"))["store"] is False
        assert "not kept here" in (await refused(api, 400, input="One", store=True))["message"]


async def test_a_key_sees_what_was_made_with_it_alone(serve: Callable[..., Service]) -> None:
    transport = httpx.ASGITransport(create_app(serve(api_keys=["one", "two"])))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
        made = (await api.post("/v1/responses", json={"input": "One"}, headers=mine)).json()
        assert (await api.get(f"/v1/responses/{made['id']}", headers=mine)).status_code == 200
        assert (await api.get(f"/v1/responses/{made['id']}", headers=theirs)).status_code == 404


async def test_a_schema_stands_beside_its_type(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object", "required": ["x"]}}
    found = await respond(api, "Where?", text={"format": form})
    assert found["text"] == {"format": form}
    assert '"required"' in str(engine.submits[0].sampling.grammar)


async def test_log_probabilities_stand_in_the_text(api: httpx.AsyncClient) -> None:
    found = await respond(api, "Go", top_logprobs=2, include=["message.output_text.logprobs"])
    logprobs = found["output"][0]["content"][0]["logprobs"]
    assert len(logprobs) == 19
    assert len(logprobs[0]["top_logprobs"]) == 2


async def test_a_failure_after_the_first_event_ends_the_stream(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "gone"), fail_after=3)
    reply = await api.post("/v1/responses", json={"input": "Go", "stream": True})
    last = json.loads(reply.text.split("\n\n")[-2].split("data: ")[1])
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == "server_error"


async def test_input_tokens_are_counted_without_an_answer(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = await api.post("/v1/responses/input_tokens", json={"input": "ab", "instructions": "c"})
    assert reply.json() == {
        "object": "response.input_tokens",
        "input_tokens": len("system:cuser:abanswer:"),
    }
    assert engine.submits == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "a", "truncation": "auto"}, "truncation"),
        ({"input": "a", "reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
    ],
)
async def test_what_is_not_served_is_named(
    api: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    assert (await refused(api, 400, **fields))["param"] == param
