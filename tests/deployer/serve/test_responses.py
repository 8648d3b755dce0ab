"""/v1/responses: answers, events, conversations that go on, tools, forms, and what is kept."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from fake_prompts import IMAGE_ID, FakePrompts

from deployer.prompt.tool_format import tool_formats
from deployer.serve.api_errors import ApiError
from deployer.serve.app import create_app
from deployer.serve.response_request import items_to_messages, messages_of
from deployer.serve.response_types import ResponseBody
from deployer.serve.service import Service

PNG = "data:image/png;base64,AAAA"
WARM: dict[str, Any] = {"type": "function", "name": "warm", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "warm", "arguments": {"at": "Oslo"}}\n</tool_call>'


async def respond(api: httpx.AsyncClient, given: Any, **fields: Any) -> dict[str, Any]:
    reply = await api.post("/v1/responses", json={"input": given, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def events_of(api: httpx.AsyncClient, given: Any, **fields: Any) -> list[dict[str, Any]]:
    reply = await api.post("/v1/responses", json={"input": given, "stream": True, **fields})
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    found = []
    for event in reply.text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def prompt_of(engine: FakeEngine, place: int = -1) -> str:
    ids = engine.submits[place].token_ids
    return bytes(token_id for token_id in ids if token_id != IMAGE_ID).decode()


async def refused(api: httpx.AsyncClient, status: int, **body: Any) -> dict[str, Any]:
    reply = await api.post("/v1/responses", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()["error"]


@pytest.fixture
async def tooled(serve: Callable[..., Service]) -> AsyncGenerator[httpx.AsyncClient, None]:
    service = serve()
    assert isinstance(service.prompts, FakePrompts)
    service.prompts.tool_format = tool_formats()["hermes"]
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


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


async def test_calls_are_items_and_their_results_go_in(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text=f"Look.\n{CALL}")
    made = await respond(tooled, "How warm?", tools=[WARM])
    message, call = made["output"]
    assert message["content"][0]["text"] == "Look."
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "warm", '{"at": "Oslo"}')
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "-3"}
    for given, more in (
        ([result], {"previous_response_id": made["id"]}),
        ([{"role": "user", "content": "How warm?"}, *made["output"], result], {}),
    ):
        await respond(tooled, given, tools=[WARM], **more)
        assert prompt_of(engine) == "user:How warm?assistant:Look.tool:-3"


async def test_one_function_can_be_named(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    other = {"type": "function", "name": "wet"}
    choice = {"type": "function", "name": "warm"}
    made = await respond(tooled, "How warm?", tools=[WARM, other], tool_choice=choice)
    assert made["tool_choice"] == choice
    grammar = str(engine.submits[0].sampling.grammar)
    assert '"const": "warm"' in grammar and '"const": "wet"' not in grammar


async def test_the_events_of_a_call_add_up(tooled: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(text=CALL)
    found = await events_of(tooled, "How warm?", tools=[WARM])
    kinds = [one["type"].removeprefix("response.") for one in found]
    assert kinds[2] == "output_item.added" and found[2]["item"]["name"] == "warm"
    deltas = [one["delta"] for one in found if one["type"].endswith("arguments.delta")]
    assert "".join(deltas) == '{"at": "Oslo"}'
    assert kinds[-3:] == ["function_call_arguments.done", "output_item.done", "completed"]


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


CALLED = {"type": "function_call", "call_id": "c1", "name": "warm", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
WORDS = {"role": "assistant", "content": "I look."}


@pytest.mark.parametrize(
    ("items", "place", "words"),
    [
        ([CALLED], "input[0].call_id", "calls without a result: `c1`"),
        ([CALLED, {"role": "user", "content": "q"}, RESULT], "input[0].call_id", "calls without a result"),
        ([RESULT], "input[0].call_id", "`c1` is no call of the assistant's turn in front of it"),
        ([CALLED, RESULT, RESULT], "input[2].call_id", "call `c1` has a result already"),
        ([CALLED, CALLED, RESULT], "input[1].call_id", "`c1` is the id of `input[0].call_id` too"),
    ],
)
async def test_calls_and_results_that_do_not_fit_are_refused(
    api: httpx.AsyncClient, items: list[Any], place: str, words: str
) -> None:
    reply = await api.post("/v1/responses", json={"input": items})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, place)
    assert words in error["message"]


def test_words_behind_a_call_are_of_its_turn() -> None:
    body = ResponseBody.model_validate({"input": [CALLED, WORDS, RESULT]})
    turn, result = messages_of(body, ())
    assert (turn.role, turn.tool_calls is not None, result.role) == ("assistant", True, "tool")
    assert [part.text for part in turn.content] == ["I look."]


async def test_forms_are_refused_in_the_words_of_this_api_also_where_they_are_counted(
    api: httpx.AsyncClient,
) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "objec"}}
    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        error = (await api.post(path, json={"input": "q", "text": {"format": form}})).json()["error"]
        assert error["param"] == "text.format"
        assert error["message"].startswith("`text.format`: `schema`: `type` is `objec`")
    body = {"input": "q", "max_output_tokens": 5000}
    assert (await api.post("/v1/responses", json=body)).json()["error"]["param"] == "max_output_tokens"


async def test_values_that_say_what_is_done_anyway_are_taken(api: httpx.AsyncClient) -> None:
    await respond(
        api,
        "q",
        reasoning={"effort": "none", "summary": None},
        text={"verbosity": "medium"},
        include=["reasoning.encrypted_content"],
        prompt_cache_key="k",
        prompt_cache_options={"mode": "implicit"},
        stream_options={"include_obfuscation": False},
        max_tool_calls=3,
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
    )
    body = {"input": "q", "reasoning": {"effort": "high"}, "tool_choice": "required"}
    error = (await api.post("/v1/responses", json=body)).json()["error"]
    assert error["param"] == "reasoning.effort"
    error = (await api.post("/v1/responses", json={**body, "reasoning": None})).json()["error"]
    assert error["message"] == "`tool_choice` needs `tools`"


PICTURE = {"type": "input_image", "image_url": PNG}


@pytest.mark.parametrize(
    ("behind", "roles"),
    [
        ([], ["assistant", "tool", "user"]),
        ([{"role": "user", "content": "Well?"}], ["assistant", "tool", "user"]),
        ([WORDS, {"role": "user", "content": "Well?"}], ["assistant", "tool", "user", "assistant", "user"]),
    ],
)
def test_pictures_of_a_result_stand_in_the_user_s_turn_behind_it(behind: list[Any], roles: list[str]) -> None:
    result = {**RESULT, "output": [{"type": "input_text", "text": "3"}, PICTURE]}
    body = ResponseBody.model_validate({"input": [CALLED, result, *behind]})
    found = messages_of(body, ())
    assert [message.role for message in found] == roles
    assert [part.type for part in found[1].content] == ["text"]
    assert found[2].content[0].type == "image_url"


def test_a_call_of_the_previous_response_wants_its_result() -> None:
    earlier = items_to_messages(ResponseBody.model_validate({"input": [CALLED]}).input)
    for given in ("Well?", [{"role": "user", "content": "Well?"}]):
        body = ResponseBody.model_validate({"input": given, "previous_response_id": "r"})
        with pytest.raises(ApiError, match=r"calls without a result: `c1` \(`previous_response_id`\)"):
            messages_of(body, earlier)
    body = ResponseBody.model_validate({"input": [RESULT], "previous_response_id": "r"})
    assert [message.role for message in messages_of(body, earlier)] == ["assistant", "tool"]
