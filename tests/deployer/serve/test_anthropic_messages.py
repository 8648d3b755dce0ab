"""/v1/messages: answers, events, turns, pictures, forms, counts and faults, as Anthropic has them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from anthropic_asks import ASKED, LAST, PICTURE, WARM, body_of, events_of, refused, said
from chats import prompt_of
from fake_engine import FakeEngine, Script

from deployer.serve.app import create_app
from deployer.serve.service import Service


async def test_a_question_is_answered_by_a_message(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await said(api, "What is it?", system="Be brief.", metadata={"user_id": "ann"}, top_k=5)
    assert found["id"].startswith("msg_")
    assert (found["type"], found["role"], found["model"]) == ("message", "assistant", "tiny")
    assert found["content"] == [{"type": "text", "text": "It is a red circle."}]
    assert (found["stop_reason"], found["stop_sequence"]) == ("end_turn", None)
    assert prompt_of(engine) == "system:Be brief.user:What is it?"
    assert found["usage"] == {
        "input_tokens": len(engine.submits[0].token_ids),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 19,
        "image_tokens": 0,
    }


async def test_a_stream_has_anthropic_s_events_in_order(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    events = await events_of(api, "What is it?")
    kinds = [event["type"] for event in events]
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * len(deltas),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["input_tokens"] == len(engine.submits[0].token_ids)
    assert events[1] == {
        "type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}
    }  # fmt: skip
    assert "".join(event["delta"]["text"] for event in deltas) == "It is a red circle."
    assert all((event["index"], event["delta"]["type"]) == (0, "text_delta") for event in deltas)
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 19


async def test_a_message_says_why_it_ended(api: httpx.AsyncClient) -> None:
    stopped = await said(api, "q", stop_sequences=["red", "blue"])
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "red")
    assert stopped["content"] == [{"type": "text", "text": "It is a "}]
    cut = await said(api, "q", max_tokens=5)
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("max_tokens", None)
    assert cut["usage"]["output_tokens"] == 5


async def test_an_answer_without_a_word_can_be_sent_back(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    turns = [
        {"role": "user", "content": "Which?"},
        {"role": "assistant", "content": []},
        {"role": "user", "content": "Now?"},
    ]
    await said(api, turns)
    assert prompt_of(engine) == "user:Which?assistant:user:Now?"


async def test_blocks_of_turns_go_in_with_pictures(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "this?"}]},
    ]
    system = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    found = await said(api, turns, system=system)
    assert prompt_of(engine) == "system:Be brief.user:Helloassistant:Hiuser:Andthis?"
    assert len(engine.submits[0].images) == 1
    assert found["usage"]["image_tokens"] > 0


async def test_an_answer_is_held_to_a_schema(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    await said(api, "q", output_config={"format": form})
    assert engine.submits[-1].sampling.grammar is not None


async def test_tokens_are_counted_without_an_answer(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    whole = {**body_of("What is it?"), "stream": True, "temperature": 0.5}
    bare = {key: value for key, value in body_of("What is it?").items() if key != "max_tokens"}
    for body in (whole, bare):
        reply = await api.post("/v1/messages/count_tokens", json=body)
        assert reply.json() == {"input_tokens": len("user:What is it?answer:")}
    assert engine.submits == []


UNKNOWN = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c9"}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "`max_tokens`"),
        ({"temperature": 1.5}, "`temperature`: must be less than or equal to 1"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            "`thinking.type`: must be `disabled` or `adaptive`, since no model here thinks aloud, got "
            '"enabled"; leave `thinking` out',
        ),
        ({"mcp_servers": [{"url": "u"}]}, "`mcp_servers`: must be empty"),
        ({"output_config": {"effort": "low"}}, "`output_config.effort`: must be `high`"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "taken as it is"),
        ({"stopp_sequences": []}, "unknown field `stopp_sequences`; known near it: `stop_sequences`"),
        ({"messages": [ASKED, LAST]}, "going on with the beginning of an answer is not served"),
        ({"messages": [UNKNOWN]}, "`messages[0].content[0].tool_use_id`: `c9` is no call of the assistant"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "`messages[0].content[0].type`: must be one of `text`, `image`, `document`, `tool_result`, got "
            '"video"',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            'source.type`: must be one of `text`, `content`, got "base64"; of a PDF send the text',
        ),
        ({"messages": [{"role": "tool", "content": ""}]}, "`messages[0].role`: must be one of `user`"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "`tools[0].type`: must be `custom`",
        ),
        ({"tools": [WARM], "tool_choice": {"type": "tool"}}, "must hold `name` where its `type` is `tool`"),
    ],
)
async def test_a_fault_is_named_in_anthropic_s_shape(
    api: httpx.AsyncClient, fields: dict[str, Any], words: str
) -> None:
    error = await refused(api, 400, {**body_of("q"), **fields})
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


async def test_a_client_that_would_have_its_messages_kept_is_told_to_send_them(
    api: httpx.AsyncClient,
) -> None:
    error = await refused(api, 400, {**body_of("q"), "thread": {"type": "create"}})
    assert error["message"] == "`thread`: conversations are not kept here: leave it out and send all messages"
    # what the `anthropic` package goes on from, with all messages
    assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_instructions_may_come_between_turns(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    await said(api, [ASKED, LAST, {"role": "system", "content": "Be brief."}, ASKED])
    assert prompt_of(engine) == "user:qassistant:It issystem:Be brief.user:q"


async def test_faults_of_every_layer_have_this_shape(serve: Callable[..., Service]) -> None:
    service = serve(api_keys=["client"])
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        assert (await refused(api, 401, body_of("q")))["type"] == "authentication_error"
        api.headers["x-api-key"] = "wrong"
        assert (await refused(api, 401, body_of("q")))["type"] == "authentication_error"
        api.headers["x-api-key"] = "client"
        await said(api, "q")
        assert (await refused(api, 404, {**body_of("q"), "model": "other"}))["type"] == "not_found_error"
        service.admission.held.paused = True
        assert (await refused(api, 503, body_of("q")))["type"] == "overloaded_error"
    nowhere = await _get(create_app(serve()), "/v1/messages")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (405, "method_not_allowed")


async def _get(app: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as api:
        return await api.get(path)


async def test_a_stream_that_cannot_go_on_ends_with_an_error_event(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(text="It is", failed=("engine_error", "a step failed"), fail_after=2)
    events = await events_of(api, "q")
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
