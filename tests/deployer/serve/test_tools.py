"""Tools over HTTP: what reaches prompt and engine, what comes back, streamed and not, and the faults."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script

from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody
from deployer.serve.service import Service

ASK = {"messages": [{"role": "user", "content": "How warm is it in Oslo?"}]}
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
WARM: dict[str, Any] = {"type": "function", "function": {"name": "warm", "parameters": PLACE}}
WET: dict[str, Any] = {"type": "function", "function": {"name": "wet", "description": "Whether it rains"}}
CALL = '<tool_call>\n{"name": "warm", "arguments": {"place": "Oslo"}}\n</tool_call>'


async def chat(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    reply = await api.post("/v1/chat/completions", json={**ASK, "tools": [WARM, WET], **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


async def test_an_answer_with_a_call_ends_for_its_sake(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text=f"Let me see.\n{CALL}")
    choice = await chat(tooled)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert (call["type"], call["function"]) == (
        "function",
        {"name": "warm", "arguments": '{"place": "Oslo"}'},
    )


async def test_an_answer_without_a_call_is_text(tooled: httpx.AsyncClient) -> None:
    choice = await chat(tooled)
    assert choice["message"] == {"role": "assistant", "content": "It is a red circle."}
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("bunch", [1, 5, 1000])
async def test_a_stream_names_a_call_once_and_adds_its_arguments(
    tooled: httpx.AsyncClient, engine: FakeEngine, bunch: int
) -> None:
    engine.script = lambda _: Script(text=f"Look. {CALL}\n{CALL.replace('Oslo', 'Bergen')}", bunch=bunch)
    body = {**ASK, "tools": [WARM], "stream": True}
    events = (await tooled.post("/v1/chat/completions", json=body)).text.split("\n\n")
    chunks = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", [])]
    assert "".join(chunk["delta"].get("content") or "" for chunk in chunks) == "Look."
    assert [call["index"] for call in calls if "id" in call] == [0, 1]
    for index, place in enumerate(("Oslo", "Bergen")):
        mine = [call["function"] for call in calls if call["index"] == index]
        assert [function["name"] for function in mine if "name" in function] == ["warm"]
        assert "".join(function["arguments"] for function in mine) == f'{{"place": "{place}"}}'
    assert chunks[-1]["finish_reason"] == "tool_calls"
    assert all(chunk["finish_reason"] is None for chunk in chunks[:-1])


async def test_a_call_that_is_cut_ends_for_its_length(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text=CALL)
    choice = await chat(tooled, max_tokens=50)
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "warm"


@pytest.mark.parametrize("length", [3, 20, 27])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "warm"}}])
async def test_a_required_call_that_is_cut_before_its_name_shows_no_markers(
    tooled: httpx.AsyncClient, engine: FakeEngine, choice: Any, length: int
) -> None:
    engine.script = lambda _: Script(text=CALL)
    whole = await chat(tooled, max_tokens=length, tool_choice=choice)
    assert (whole["finish_reason"], whole["message"]) == ("length", {"role": "assistant", "content": None})
    body = {**ASK, "tools": [WARM, WET], "tool_choice": choice, "max_tokens": length, "stream": True}
    events = (await tooled.post("/v1/chat/completions", json=body)).text.split("\n\n")
    chunks = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
    assert "".join(chunk["delta"].get("content") or "" for chunk in chunks) == ""
    assert chunks[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "enforced", "names"),
    [
        ({}, False, ()),
        ({"tool_choice": "auto"}, False, ()),
        ({"tool_choice": "none"}, False, ()),
        ({"tool_choice": "required"}, True, ("warm", "wet")),
        ({"tool_choice": {"type": "function", "function": {"name": "wet"}}}, True, ("wet",)),
        ({"parallel_tool_calls": False}, True, ("warm", "wet")),
        ({"tools": [{**WARM, "function": {**WARM["function"], "strict": True}}]}, True, ("warm",)),
    ],
)
async def test_what_must_be_called_is_a_grammar(
    tooled: httpx.AsyncClient,
    engine: FakeEngine,
    fields: dict[str, Any],
    enforced: bool,
    names: tuple[str, ...],
) -> None:
    await chat(tooled, **fields)
    grammar = engine.submits[0].sampling.grammar
    assert (grammar is not None) == enforced
    for name in ("warm", "wet"):
        assert (f'{{"const": "{name}"}}' in (grammar or "")) == (name in names)


async def test_none_calls_nothing_whatever_is_written(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text=CALL)
    choice = await chat(tooled, tool_choice="none")
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": CALL}, "stop")


async def test_calls_and_results_of_earlier_turns_reach_the_prompt(
    tooled: httpx.AsyncClient, serve: Callable[..., Service]
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "warm", "arguments": '{"place": "Oslo"}'}}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": None},
        {"role": "tool", "tool_call_id": "c1", "content": "-3 degrees"},
    ]
    choice = await chat(tooled, messages=turns)
    assert choice["message"]["content"] == "It is a red circle."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": None, "tool_choice": "auto"}, "`tool_choice` needs `tools`"),
        ({"tools": None, "parallel_tool_calls": True}, "`parallel_tool_calls` needs `tools`"),
        ({"tools": [WARM, WARM]}, "two functions have the same name"),
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}}, "`fly` is none of `tools`"),
        ({"tool_choice": "any"}, "`tool_choice`"),
        ({"response_format": {"type": "json_object"}}, "`response_format` beside `tools`"),
        ({"tool_choice": "required", "ignore_eos": True}, "could leave the form of the answer"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "1"}]}, "`x` is no call of the"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "`tool_call_id` where its role is `tool`"),
        ({"messages": [{"role": "user", "content": "1", "tool_call_id": "x"}]}, "and only there"),
        ({"messages": [{"role": "assistant"}]}, "must hold `content`"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "must hold `content`"),
        ({"messages": [{"role": "user", "content": "1", "name": "Ann"}]}, "of role `tool` to hold `name`"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "objec"}}}],
             "tool_choice": "required"},
            "`tools`: function `f`: `parameters`: `type` is `objec`",
        ),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_a_400(
    tooled: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, Any], message: str
) -> None:
    reply = await tooled.post("/v1/chat/completions", json={**ASK, "tools": [WARM, WET], **fields})
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
    assert engine.submits == []


CALLED: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "warm", "arguments": "{}"}}
CALLS = {"role": "assistant", "tool_calls": [CALLED]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "3"}
SAID = {"role": "user", "content": "Well?"}


@pytest.mark.parametrize(
    ("turns", "place", "message"),
    [
        ([SAID, CALLS], "messages[1].tool_calls[0].id", "calls without a result: `c1`"),
        ([CALLS, SAID, RESULT], "messages[0].tool_calls[0].id", "calls without a result: `c1`"),
        (
            [CALLS, RESULT, SAID, RESULT],
            "messages[3].tool_call_id",
            "`c1` is no call of the assistant's turn",
        ),
        ([CALLS, RESULT, RESULT], "messages[2].tool_call_id", "call `c1` has a result already"),
        ([{**CALLS, "tool_calls": [CALLED] * 2}], "messages[0].tool_calls[1].id", "`c1` is the id of"),
        ([CALLS, {**RESULT, "name": "wet"}], "messages[1].name", "is of the function `warm`, not of `wet`"),
    ],
    ids=["at the end", "in between", "of another turn", "twice", "two of one id", "of another function"],
)
async def test_calls_and_results_that_do_not_fit_are_refused(
    tooled: httpx.AsyncClient, engine: FakeEngine, turns: list[Any], place: str, message: str
) -> None:
    reply = await tooled.post("/v1/chat/completions", json={"messages": turns, "tools": [WARM]})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, place)
    assert message in error["message"]
    assert engine.submits == []


async def test_a_result_may_name_its_function_and_a_turn_say_that_it_calls_none(
    tooled: httpx.AsyncClient,
) -> None:
    answered = {"role": "assistant", "content": "3", "tool_calls": [], "annotations": []}
    turns = [CALLS, {**RESULT, "name": "warm"}, answered, SAID]
    assert (await chat(tooled, messages=turns))["message"]["content"]


async def test_an_id_may_come_again_in_a_later_turn(tooled: httpx.AsyncClient) -> None:
    assert (await chat(tooled, messages=[CALLS, RESULT, CALLS, RESULT]))["message"]["content"]


async def test_a_conversation_that_is_counted_may_end_with_calls(tooled: httpx.AsyncClient) -> None:
    reply = await tooled.post("/tokenize", json={"messages": [SAID, CALLS], "add_generation_prompt": False})
    assert reply.status_code == 200
    assert (await tooled.post("/tokenize", json={"messages": [SAID, CALLS]})).status_code == 400


async def test_arguments_that_a_model_wrote_wrong_go_back_to_it(
    tooled: httpx.AsyncClient,
) -> None:
    function = {"name": "warm", "arguments": "{place: Oslo}"}
    turns = [{"role": "assistant", "tool_calls": [{**CALLED, "function": function}]}, RESULT]
    [message, _] = conversation(ChatBody.model_validate({"messages": turns}).messages)
    assert message.tool_calls[0].arguments == {"INVALID_JSON": "{place: Oslo}"}
    await chat(tooled, messages=turns)


async def test_a_template_that_knows_no_tools_refuses_them(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "tools": [WARM]})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "tools_not_supported")
    assert "knows no tools" in error["message"]
