"""How a chat's answer ends: limits, stop strings, stop tokens, failures."""

import json
from collections.abc import Callable

import httpx
import pytest
from chats import ASK, chat, streamed
from fake_engine import FakeEngine, Script

from deployer.serve.app import create_app
from deployer.serve.service import Service


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_both_names_of_the_token_limit_work(
    api: httpx.AsyncClient, engine: FakeEngine, field: str
) -> None:
    answer = await chat(api, **{field: 5})
    assert engine.submits[0].sampling.max_new_tokens == 5
    assert answer["choices"][0]["message"]["content"] == "It is"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert (await streamed(api, **{field: 5}))[0]["ends"] == [("length", None)]


async def test_two_different_token_limits_are_refused(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "max_tokens": 5, "max_completion_tokens": 6})
    assert reply.status_code == 400
    assert "5" in reply.json()["error"]["message"]


@pytest.mark.parametrize("stop", ["red", ["zebra", "red"], ["is a red circle, ", "re"]])
async def test_a_stop_string_ends_the_text_and_the_sequence(
    api: httpx.AsyncClient, engine: FakeEngine, stop: str | list[str]
) -> None:
    engine.script = lambda _: Script(endless=True)
    answer = await chat(api, stop=stop)
    choice = answer["choices"][0]
    assert choice["message"]["content"] == "It is a "
    word = "re" if "re" in stop and stop != "red" else "red"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", word)
    assert answer["usage"]["completion_tokens"] == len("It is a ") + len(word)
    assert engine.aborts == [engine.submits[0].request_id]
    found = await streamed(api, stop=stop)
    assert found[0]["text"] == "It is a "
    assert found[0]["ends"] == [("stop", word)]


async def test_a_stop_string_may_end_inside_a_bunch_of_tokens(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True, bunch=7)
    answer = await chat(api, stop="red", logprobs=True)
    assert answer["choices"][0]["message"]["content"] == "It is a "
    assert answer["usage"]["completion_tokens"] == len("It is a red")
    assert len(answer["choices"][0]["logprobs"]["content"]) == len("It is a red")


async def test_the_stop_string_can_be_kept(api: httpx.AsyncClient) -> None:
    answer = await chat(api, stop="red", include_stop_str_in_output=True)
    assert answer["choices"][0]["message"]["content"] == "It is a red"


async def test_text_held_back_for_a_stop_string_comes_at_the_end(api: httpx.AsyncClient) -> None:
    assert (await streamed(api, stop="circle. And"))[0]["text"] == "It is a red circle."


async def test_the_stop_token_that_ended_it_is_named(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(stop_token_id=65)
    answer = await chat(api, stop_token_ids=[65, 66])
    assert engine.submits[0].sampling.stop_token_ids == (65, 66)
    assert (answer["choices"][0]["finish_reason"], answer["choices"][0]["stop_reason"]) == ("stop", 65)
    assert (await streamed(api, stop_token_ids=[65]))[0]["ends"] == [("stop", 65)]


async def test_the_template_s_own_stop_words_count_beside_the_request_s(
    engine: FakeEngine, serve: Callable[..., Service]
) -> None:
    service = serve()
    service.prompts.stop_words, service.prompts.stop_token_ids = ("a red",), (99,)
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        for stop, said in ((None, "It is "), ("is", "It ")):
            answer = await chat(api, stop=stop, stop_token_ids=[65])
            assert answer["choices"][0]["message"]["content"] == said
    assert engine.submits[0].sampling.stop_token_ids == (99, 65)


async def test_what_does_not_fit_the_session_is_refused_with_the_numbers(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "max_tokens": 4090})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "16 tokens" in error["message"]
    assert "4096" in error["message"]
    assert engine.submits == []


async def test_without_a_limit_the_answer_may_fill_the_session(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await chat(api)
    assert engine.submits[0].sampling.max_new_tokens == 4096 - len(engine.submits[0].token_ids)


async def test_a_failure_before_the_first_token_is_a_status_also_in_a_stream(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("context_length_exceeded", "too long by 7"))
    for stream in (False, True):
        reply = await api.post("/v1/chat/completions", json={**ASK, "stream": stream})
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == "too long by 7"


async def test_a_failure_inside_a_stream_is_an_event_and_its_end(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "the engine process was ended"), fail_after=3)
    reply = await api.post("/v1/chat/completions", json={**ASK, "stream": True})
    assert reply.status_code == 200
    last = reply.text.split("\n\n")[-2]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == ("engine_error", "server_error")
    assert "[DONE]" not in reply.text
    reply = await api.post("/v1/chat/completions", json=ASK)
    assert reply.status_code == 500


async def test_one_failed_choice_ends_the_others(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda submit: (
        Script(failed=("engine_error", "boom"), fail_after=2)
        if submit.sampling.seed == 2
        else Script(endless=True)
    )
    reply = await api.post("/v1/chat/completions", json={**ASK, "n": 3, "seed": 1})
    assert reply.status_code == 500
    assert engine.running == 0
    assert len(engine.left_early) == 2
