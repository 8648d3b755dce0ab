"""Fields of /v1/chat/completions and what they do, streamed and not."""

from typing import Any

import httpx
import pytest
from chats import ASK, chat, chunks, streamed
from fake_engine import FakeEngine, Script
from fake_prompts import IMAGE_TOKENS

PNG = "data:image/png;base64,AAAA"


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


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none", "verbosity": "medium"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "in_memory"},
        {"prompt_cache_options": {"mode": "implicit"}},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}, "stream": True},
        {"store": False, "service_tier": "auto", "modalities": ["text"], "safety_identifier": "ann"},
    ],
)
async def test_values_that_say_what_is_done_anyway_are_taken(
    api: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, **fields})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"reasoning_effort": "low"},
            '`reasoning_effort`: must be `none`, since no model here thinks aloud, got "low"',
        ),
        ({"verbosity": "low"}, "`verbosity`: must be `medium`"),
        ({"prompt_cache_retention": "24h"}, "`prompt_cache_retention`: must be `in_memory`"),
        ({"prompt_cache_options": {"ttl": "30m"}}, "`prompt_cache_options.ttl` is not served"),
        ({"stream_options": {"include_obfuscation": True}, "stream": True}, "must be false"),
        ({"store": True}, "`store`: must be false, got true; leave it out"),
    ],
)
async def test_other_values_of_these_fields_are_refused(
    api: httpx.AsyncClient, fields: dict[str, Any], words: str
) -> None:
    reply = await api.post("/v1/chat/completions", json={**ASK, **fields})
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
