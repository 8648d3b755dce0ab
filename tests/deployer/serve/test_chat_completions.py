"""Fields of /v1/chat/completions and what they do, streamed and not."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from fake_prompts import IMAGE_TOKENS

from deployer.serve.app import create_app
from deployer.serve.service import Service

ASK = {"messages": [{"role": "user", "content": "What is it?"}]}
PNG = "data:image/png;base64,AAAA"


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


@pytest.mark.parametrize("bunch", [1, 3, 100])
async def test_characters_of_several_tokens_arrive_whole(
    api: httpx.AsyncClient, engine: FakeEngine, bunch: int
) -> None:
    engine.script = lambda _: Script(text="grüß 你好 🙂", bunch=bunch)
    assert (await streamed(api))[0]["text"] == "grüß 你好 🙂"


async def test_usage_comes_last_where_it_is_asked_for(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(cached_tokens=5)
    found = await chunks(api, stream_options={"include_usage": True})
    assert [c["usage"] for c in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["choices"] == []
    usage = found[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 19
    assert usage["prompt_tokens_details"] == {"cached_tokens": 5, "image_tokens": 0}


async def test_stream_options_need_a_stream(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "stream_options": {"include_usage": True}})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "stream_options"


async def test_pictures_reach_the_engine_once_a_choice_and_are_counted(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    parts = [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}] * 2
    content = [*parts, {"type": "text", "text": "Which is larger?"}]
    answer = await chat(api, messages=[{"role": "user", "content": content}], n=2)
    assert answer["usage"]["prompt_tokens_details"]["image_tokens"] == 2 * IMAGE_TOKENS
    assert len(engine.submits) == 2
    assert engine.seen_pixels == [bytes([0]) * 12, bytes([1]) * 12] * 2


async def test_roles_and_the_order_of_parts_are_kept(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    await chat(api, messages=messages)
    assert bytes(engine.submits[0].token_ids) == b"system:be briefuser:abassistant:cuser:d"


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


async def test_n_answers_have_seeds_that_follow_each_other(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    texts = {7: "red", 8: "green", 9: "blue"}
    engine.script = lambda submit: Script(text=texts[submit.sampling.seed])
    answer = await chat(api, n=3, seed=7)
    assert [c["message"]["content"] for c in answer["choices"]] == ["red", "green", "blue"]
    assert answer["usage"]["completion_tokens"] == len("redgreenblue")
    assert answer["usage"]["prompt_tokens"] == len(engine.submits[0].token_ids)
    found = await streamed(api, n=3, seed=7)
    assert [found[i]["text"] for i in range(3)] == ["red", "green", "blue"]
    assert all(found[i]["ends"] == [("stop", None)] for i in range(3))


async def test_requests_without_a_seed_get_different_ones(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    await chat(api)
    await chat(api)
    assert engine.submits[0].sampling.seed != engine.submits[1].sampling.seed


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


async def test_special_tokens_are_shown_where_that_is_asked(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    class Special(str):
        def encode(self, *_: Any) -> bytes:  # type: ignore[override]
            return [65, 257, 66]  # type: ignore[return-value]

    engine.script = lambda _: Script(text=Special("A<img>B"))
    assert (await chat(api))["choices"][0]["message"]["content"] == "AB"
    shown = await chat(api, skip_special_tokens=False)
    assert shown["choices"][0]["message"]["content"] == "A<img>B"


@pytest.mark.parametrize("top", [0, 2])
async def test_logprobs_come_with_alternatives(api: httpx.AsyncClient, engine: FakeEngine, top: int) -> None:
    answer = await chat(api, logprobs=True, top_logprobs=top, max_tokens=2)
    assert engine.submits[0].sampling.logprobs == top
    content = answer["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["I", "t"]
    assert content[0] | {"top_logprobs": None} == {
        "token": "I", "logprob": -0.25, "bytes": [73], "top_logprobs": None,
    }  # fmt: skip
    tops = [entry["token"] for entry in content[0]["top_logprobs"]]
    assert tops == ["I", "J"][:top]
    assert (await streamed(api, logprobs=True, top_logprobs=top, max_tokens=2))[0]["logprobs"] == content


async def test_top_logprobs_need_logprobs(api: httpx.AsyncClient) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, "top_logprobs": 2})
    assert reply.json()["error"]["param"] == "top_logprobs"


async def test_another_model_s_name_is_a_404(api: httpx.AsyncClient) -> None:
    await chat(api, model="tiny")
    reply = await api.post("/v1/chat/completions", json={**ASK, "model": "gpt-4o"})
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "`tiny`" in error["message"]


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


async def test_the_cached_prompt_of_several_choices_counts_once(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(cached_tokens=5)
    answer = await chat(api, n=3)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 5


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


async def test_fields_that_name_what_happens_anyway_are_taken(api: httpx.AsyncClient) -> None:
    await chat(api, store=False, service_tier="auto", modalities=["text"], metadata={"order": "17"})


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"service_tier": "priority"},
        {"modalities": ["text", "audio"]},
        {"metadata": {"a": 1}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {f"k{n}": "v" for n in range(17)}},
    ],
)
async def test_fields_that_would_mean_more_are_refused(
    api: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, **fields})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(next(iter(fields)))


async def test_user_and_metadata_stand_in_the_log(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "deployer.serve"):
        await chat(api, user="u-1", metadata={"order": "17"})
    line = caplog.messages[-1]
    assert "user=u-1" in line
    assert 'metadata="{\\"order\\":\\"17\\"}"' in line


async def test_usage_says_where_the_time_went_where_it_is_asked_for(api: httpx.AsyncClient) -> None:
    assert "timings" not in (await chat(api))["usage"]
    timings = (await chat(api, timings=True, n=2))["usage"]["timings"]
    assert (timings["queue_ms"], timings["prefill_ms"], timings["decode_ms"]) == (250, 500, 1000)
    assert 0 < timings["prompt_ms"] < timings["total_ms"]
    assert (timings["encode_ms"], timings["fetch_ms"], timings["picture_cut_ms"]) == (125, 0, 0)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    messages = [{"role": "user", "content": [part, part]}]
    timings = (await chat(api, timings=True, messages=messages))["usage"]["timings"]
    stages = ("fetch_ms", "picture_decode_ms", "picture_cut_ms")
    assert tuple(timings[stage] for stage in stages) == (500, 2 * 250, 2 * 125)
    last = (await chunks(api, timings=True, stream_options={"include_usage": True}))[-1]
    assert last["usage"]["timings"].keys() == timings.keys()
