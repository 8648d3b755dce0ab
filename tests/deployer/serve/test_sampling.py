"""Each sampling field reaches the engine, and the config fills what a request leaves open."""

from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine

PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
}

REACHES = [
    ("temperature", 0.5, "temperature", 0.5),
    ("temperature", 0, "temperature", 0.0),
    ("top_p", 0.9, "top_p", 0.9),
    ("top_k", 0, "top_k", 0),
    ("top_k", 7, "top_k", 7),
    ("min_p", 0.1, "min_p", 0.1),
    ("repetition_penalty", 1.1, "repetition_penalty", 1.1),
    ("presence_penalty", -0.5, "presence_penalty", -0.5),
    ("frequency_penalty", 1.5, "frequency_penalty", 1.5),
    ("logit_bias", {"65": -100, "66": 3.5}, "logit_bias", {65: -100.0, 66: 3.5}),
    ("seed", 12, "seed", 12),
    ("seed", -(2**63), "seed", -(2**63)),
    ("stop_token_ids", [65], "stop_token_ids", (65,)),
    ("bad_words", ["no", "never ever"], "bad_sequences", (tuple(b"no"), tuple(b"never ever"))),
    ("bad_token_ids", [65, 66], "bad_sequences", ((65,), (66,))),
    ("min_new_tokens", 3, "min_new_tokens", 3),
    ("max_tokens", 9, "max_new_tokens", 9),
    ("ignore_eos", True, "ignore_eos", True),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("field", "value", "name", "reached"), REACHES)
async def test_a_field_reaches_the_engine(
    api: httpx.AsyncClient, engine: FakeEngine, path: str, field: str, value: Any, name: str, reached: Any
) -> None:
    for stream in (False, True):
        reply = await api.post(path, json={**PATHS[path], field: value, "stream": stream})
        assert reply.status_code == 200, reply.text
        assert getattr(engine.submits[-1].sampling, name) == reached


async def test_the_config_fills_what_a_request_leaves_open(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await api.post("/v1/completions", json={"prompt": "Hi"})
    sampling = engine.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.8, 0.8, 40)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.0, 1.0)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.logit_bias) == (0.0, 0.0, {})
    assert sampling.eos_token_ids == (256,)
    assert (sampling.min_new_tokens, sampling.ignore_eos, sampling.logprobs) == (0, False, None)


async def test_null_means_the_default(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = {"prompt": "Hi", "temperature": None, "stop": None, "n": None, "stream": None, "logit_bias": None}
    assert (await api.post("/v1/completions", json=body)).status_code == 200
    assert engine.submits[0].sampling.temperature == 0.8


async def test_the_last_seed_is_followed_by_the_first(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    await api.post("/v1/completions", json={"prompt": "Hi", "seed": 2**63 - 1, "n": 2})
    assert [submit.sampling.seed for submit in engine.submits] == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"stop_token_ids": [300, 999]}, "stop_token_ids", "`300`, `999`"),
        ({"bad_token_ids": [258]}, "bad_token_ids", "end at 257"),
        ({"logit_bias": {"999": 1}}, "logit_bias", "`999`"),
        ({"logit_bias": {"red": 1, "-1": 1}}, "logit_bias", "`-1`, `red`"),
        ({"logit_bias": {"5" * 5000: 1}}, "logit_bias", f"`{'5' * 37}...`:"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias", "`05`"),
        ({"min_new_tokens": 9, "max_tokens": 8}, "min_new_tokens", "8 tokens"),
    ],
)
async def test_values_that_cannot_work_are_named(
    api: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, Any], param: str, words: str
) -> None:
    reply = await api.post("/v1/completions", json={"prompt": "Hi", **fields})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert words in reply.json()["error"]["message"]
    assert engine.submits == []
