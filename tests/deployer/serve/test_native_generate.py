"""/generate: texts and token ids in and out, pictures, log-probabilities, streams, faults."""

import json
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine

PNG = "data:image/png;base64,AAAA"


async def generated(api: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    reply = await api.post("/generate", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_text_is_continued(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await generated(api, prompt="It is", stop=["red"])
    assert found["text"] == "It is a "
    assert bytes(found["output_ids"]).decode() == "It is a red"
    assert bytes(engine.submits[0].token_ids).decode() == "It is"
    assert found["meta_info"] == {
        "prompt_tokens": 5,
        "completion_tokens": 11,
        "cached_tokens": 0,
        "finish_reason": {"type": "stop", "matched": "red"},
        "output_token_logprobs": None,
    }


async def test_token_ids_go_in_as_they_are(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    found = await generated(api, input_ids=[72, 105], max_tokens=3, return_logprob=True, top_k=1)
    assert engine.submits[0].token_ids == (72, 105)
    assert engine.submits[0].sampling.top_k == 1
    assert found["meta_info"]["output_token_logprobs"] == [[-0.25, token_id] for token_id in b"It "]
    assert found["meta_info"]["finish_reason"]["type"] == "length"


async def test_a_stream_adds_up_to_the_whole(api: httpx.AsyncClient) -> None:
    whole = await generated(api, prompt="q", return_logprob=True)
    reply = await api.post("/generate", json={"prompt": "q", "return_logprob": True, "stream": True})
    *lines, done = reply.text.split("\n\n")[:-1]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert done == "data: [DONE]"
    assert "".join(event["text"] for event in events) == whole["text"]
    assert [one for event in events for one in event["output_ids"]] == whole["output_ids"]
    scored = [one for event in events for one in event["meta_info"]["output_token_logprobs"]]
    assert scored == whole["meta_info"]["output_token_logprobs"], "the last event has none, in a list too"
    assert [event["meta_info"]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    last = events[-1]["meta_info"]
    assert (last["completion_tokens"], last["finish_reason"]["type"]) == (len(whole["output_ids"]), "stop")


@pytest.mark.parametrize("given", [PNG, [PNG], {"url": PNG}, [{"url": PNG, "detail": "low"}]])
async def test_pictures_go_in(api: httpx.AsyncClient, engine: FakeEngine, given: Any) -> None:
    await generated(api, prompt="<IMAGE_TOKEN> What is it?", image_data=given)
    assert len(engine.submits[0].images) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "must hold `prompt` or `input_ids`"),
        ({"prompt": "a", "input_ids": [1]}, "must hold `prompt` or `input_ids`"),
        ({"input_ids": [1], "image_data": PNG}, "token ids have no places for pictures"),
        ({"prompt": "a", "image_data": [3]}, "must be a URL or an object with one in `url`"),
        ({"prompt": "a", "session_id": 1}, "`session_id` is not served in this version"),
        (
            {"prompt": "a", "sampling_params": {}},
            "SGLang's, not served here: its fields stand beside `prompt`",
        ),
        ({"prompt": "a", "topk": 1}, "unknown field `topk`; known near it: `top_k`"),
        (
            {"prompt": "a", "foo": 1},
            "unknown field `foo`: leave it out; this path takes `ignore_eos`, `image_",
        ),
    ],
)
async def test_a_fault_is_named(api: httpx.AsyncClient, body: dict[str, Any], words: str) -> None:
    reply = await api.post("/generate", json=body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
