"""/v1/responses: tools, calls and their results, fields that say what is done anyway."""

from typing import Any

import httpx
import pytest
from chats import prompt_of
from fake_engine import FakeEngine, Script
from response_asks import CALL, PNG, WARM, events_of, respond

from deployer.serve.api_errors import ApiError
from deployer.serve.response_request import items_to_messages, messages_of
from deployer.serve.response_types import ResponseBody


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
