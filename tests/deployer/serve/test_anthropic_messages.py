"""/v1/messages: answers, events, turns, pictures, tools, forms, counts and faults, as Anthropic has them."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from fake_prompts import IMAGE_ID, FakePrompts

from deployer.prompt.tool_format import tool_formats
from deployer.serve.app import create_app
from deployer.serve.service import Service

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
WARM: dict[str, Any] = {"name": "warm", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "warm", "arguments": {"at": "Oslo"}}\n</tool_call>'
USE: dict[str, Any] = {"type": "tool_use", "id": "c1", "name": "warm", "input": {"at": "Oslo"}}


def body_of(content: Any, **fields: Any) -> dict[str, Any]:
    turns = content if isinstance(content, list) and "role" in content[0] else None
    turns = turns or [{"role": "user", "content": content}]
    return {"model": "tiny", "max_tokens": 128, "messages": turns, **fields}


async def said(api: httpx.AsyncClient, content: Any, **fields: Any) -> dict[str, Any]:
    reply = await api.post("/v1/messages", json=body_of(content, **fields))
    assert reply.status_code == 200, reply.text
    return reply.json()


async def events_of(api: httpx.AsyncClient, content: Any, **fields: Any) -> list[dict[str, Any]]:
    reply = await api.post("/v1/messages", json=body_of(content, stream=True, **fields))
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    found = []
    for event in reply.text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def refused(api: httpx.AsyncClient, status: int, body: dict[str, Any]) -> dict[str, Any]:
    reply = await api.post("/v1/messages", json=body)
    assert reply.status_code == status, reply.text
    found = reply.json()
    assert (found["type"], found["request_id"]) == ("error", reply.headers["request-id"])
    return found["error"]


def prompt_of(engine: FakeEngine) -> str:
    return bytes(token_id for token_id in engine.submits[-1].token_ids if token_id != IMAGE_ID).decode()


@pytest.fixture
async def tooled(serve: Callable[..., Service]) -> AsyncGenerator[httpx.AsyncClient, None]:
    service = serve()
    assert isinstance(service.prompts, FakePrompts)
    service.prompts.tool_format = tool_formats()["hermes"]
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


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


async def test_a_call_is_a_block_with_its_input(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text="Let me see." + CALL)
    found = await said(tooled, "Is it warm?", tools=[WARM])
    text, call = found["content"]
    assert text == {"type": "text", "text": "Let me see."}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "warm", {"at": "Oslo"})
    assert found["stop_reason"] == "tool_use"
    events = await events_of(tooled, "Is it warm?", tools=[WARM])
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [one["type"] for one in starts] == ["text", "tool_use"]
    assert (starts[1]["name"], starts[1]["input"]) == ("warm", {})
    written = [event["delta"] for event in events if event.get("index") == 1 and "delta" in event]
    assert {one["type"] for one in written} == {"input_json_delta"}
    assert json.loads("".join(one["partial_json"] for one in written)) == {"at": "Oslo"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("written", "limit", "shown"),
    [
        (CALL, 52, {"at": "Os"}),
        (CALL.replace('{"at": "Oslo"}', "[1]"), 64, {"INVALID_JSON": "[1]"}),
        (CALL.replace('"Oslo"', "Oslo"), 64, {"INVALID_JSON": '{"at": Oslo}'}),
    ],
    ids=["cut", "no object", "no JSON"],
)
async def test_an_input_that_is_not_whole_is_an_object_all_the_same(
    tooled: httpx.AsyncClient, engine: FakeEngine, written: str, limit: int, shown: dict[str, Any]
) -> None:
    engine.script = lambda _: Script(text=written)
    [call] = (await said(tooled, "q", tools=[WARM], max_tokens=limit))["content"]
    assert call["input"] == shown


@pytest.mark.parametrize("kind", ["auto", "any", "tool", "none"])
async def test_a_choice_of_tools_holds_the_answer(
    tooled: httpx.AsyncClient, engine: FakeEngine, kind: str
) -> None:
    choice = {"type": kind, "disable_parallel_tool_use": True} | ({"name": "warm"} if kind == "tool" else {})
    await said(tooled, "q", tools=[WARM], tool_choice=choice)
    assert (engine.submits[-1].sampling.grammar is None) == (kind == "none")


async def test_results_of_tools_go_in_and_their_pictures_behind_them(
    tooled: httpx.AsyncClient, engine: FakeEngine
) -> None:
    result = {"type": "tool_result", "tool_use_id": "c1"}
    turns = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, USE, {**USE, "id": "c2"}]},
        {
            "role": "user",
            "content": [
                {**result, "content": [{"type": "text", "text": "12 C"}, PICTURE]},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no thermometer", "is_error": True},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    await said(tooled, turns, tools=[WARM])
    assert prompt_of(engine).endswith("tool:12 Ctool:Error: no thermometeruser:Well?")
    assert len(engine.submits[-1].images) == 1


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


LAST = {"role": "assistant", "content": "It is"}
ASKED = {"role": "user", "content": "q"}
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


SCHEMA = {"type": "object", "properties": {"a": {"type": "objec"}}}
FORM: dict[str, Any] = {"format": {"type": "json_schema", "schema": SCHEMA}}
PLAIN = {"format": {"type": "json_schema", "schema": {}}}
ANY = {"type": "any"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output_config": FORM}, "`output_config.format`: `schema.properties.a`: `type`"),
        ({"tools": [{**WARM, "input_schema": SCHEMA}], "tool_choice": ANY}, "`input_schema.properties.a`:"),
        (
            {"tools": [WARM], "output_config": PLAIN},
            "`output_config.format` beside `tools`: an answer is a call",
        ),
        ({"tools": [WARM, WARM]}, "two functions have the same name"),
        ({"tool_choice": ANY}, "`tool_choice` needs `tools`"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_tools_and_forms_are_refused_in_the_client_s_words_also_where_they_are_counted(
    tooled: httpx.AsyncClient, path: str, fields: dict[str, Any], words: str
) -> None:
    reply = await tooled.post(path, json=body_of("q", **fields))
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


async def test_what_agents_send_and_nothing_follows_from_is_taken(
    tooled: httpx.AsyncClient, engine: FakeEngine
) -> None:
    hint = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    said = {"type": "text", "text": "I look.", "citations": []}
    turns = [
        ASKED,
        {"role": "assistant", "content": [said, {**USE, "caller": {"type": "direct"}, "toolset_name": None}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "3", **hint}]},
    ]
    plain = await tooled.post("/v1/messages", json=body_of(turns, tools=[WARM]))
    prompt = engine.submits[-1].token_ids
    fields = {
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "mcp_servers": [],
        "output_config": {"effort": "high"},
        "service_tier": "auto",
        "speed": "standard",
        "tools": [{**WARM, **hint, "type": "custom", "eager_input_streaming": True, "defer_loading": False}],
        **hint,
    }
    headers = {"anthropic-beta": "context-management-2025-06-27", "anthropic-version": "2023-06-01"}
    reply = await tooled.post(
        "/v1/messages", params={"beta": "true"}, headers=headers, json=body_of(turns, **fields)
    )
    assert reply.status_code == 200, reply.text
    assert engine.submits[-1].token_ids == prompt
    assert reply.json()["content"] == plain.json()["content"]


async def test_a_client_that_would_have_its_messages_kept_is_told_to_send_them(
    api: httpx.AsyncClient,
) -> None:
    error = await refused(api, 400, {**body_of("q"), "thread": {"type": "create"}})
    assert error["message"] == "`thread`: conversations are not kept here: leave it out and send all messages"
    # what the `anthropic` package goes on from, with all messages
    assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_documents_go_in_as_their_text(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "It rains."}
    parts = {"type": "content", "content": [{"type": "text", "text": "It snows."}, PICTURE]}
    document = {"type": "document", "title": "Oslo", "context": "of today", "citations": {"enabled": False}}
    turns = [
        {"role": "user", "content": [{**document, "source": plain}, {"type": "text", "text": "Well?"}]},
        {"role": "assistant", "content": [USE, {"type": "text", "text": "I look."}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "document", "source": parts}],
                }
            ],
        },
    ]
    await said(tooled, turns, tools=[WARM])
    assert prompt_of(engine) == (
        "user:Oslo\nof today\nIt rains.\n\nWell?assistant:I look.tool:It snows.\n\nuser:"
    )
    assert len(engine.submits[-1].images) == 1


async def test_instructions_may_come_between_turns(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    await said(api, [ASKED, LAST, {"role": "system", "content": "Be brief."}, ASKED])
    assert prompt_of(engine) == "user:qassistant:It issystem:Be brief.user:q"


RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "3"}
CALLS = {"role": "assistant", "content": [USE]}


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([ASKED, CALLS, ASKED], "calls without a result: `c1` (`messages[1].content[0].id`)"),
        (
            [ASKED, {**CALLS, "content": [USE, USE]}, {"role": "user", "content": [RESULT]}],
            "`messages[1].content[1].id`: `c1` is the id of `messages[1].content[0].id` too",
        ),
        (
            [ASKED, CALLS, {"role": "user", "content": [RESULT, RESULT]}],
            "`messages[2].content[1].tool_use_id`: call `c1` has a result already",
        ),
        (
            [
                ASKED,
                CALLS,
                {"role": "user", "content": [RESULT]},
                LAST,
                {"role": "user", "content": [RESULT]},
            ],
            "`messages[4].content[0].tool_use_id`: `c1` is no call of the assistant's turn in front of it",
        ),
    ],
    ids=["none", "two of one id", "two results", "of another turn"],
)
async def test_calls_and_results_that_do_not_fit_are_refused(
    tooled: httpx.AsyncClient, turns: list[Any], words: str
) -> None:
    assert words in (await refused(tooled, 400, body_of(turns, tools=[WARM])))["message"]


async def test_text_in_front_of_a_result_is_refused(api: httpx.AsyncClient) -> None:
    late = [{"type": "text", "text": "Here:"}, {"type": "tool_result", "tool_use_id": "c1"}]
    turns = [ASKED, {"role": "assistant", "content": [USE]}, {"role": "user", "content": late}]
    assert "must come first in a turn" in (await refused(api, 400, body_of(turns)))["message"]


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
        service.admission.draining = True
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
