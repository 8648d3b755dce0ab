"""/v1/messages: what agents send: tools, calls and their results, documents, fields that say what is done."""

import json
from typing import Any

import httpx
import pytest
from anthropic_asks import ASKED, CALL, LAST, PICTURE, USE, WARM, body_of, events_of, refused, said
from chats import prompt_of
from fake_engine import FakeEngine, Script


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
