"""/v1/completions: four forms of prompt, echo, n, logprobs, streams."""

import json
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script


async def complete(api: httpx.AsyncClient, prompt: Any, **fields: Any) -> dict[str, Any]:
    reply = await api.post("/v1/completions", json={"prompt": prompt, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def chunks(api: httpx.AsyncClient, prompt: Any, **fields: Any) -> list[dict[str, Any]]:
    reply = await api.post("/v1/completions", json={"prompt": prompt, "stream": True, **fields})
    events = reply.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def joined(found: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(c["text"] for chunk in found for c in chunk["choices"] if c["index"] == index)


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("ab", [(97, 98)]),
        (["ab", "c"], [(97, 98), (99,)]),
        ([97, 98], [(97, 98)]),
        ([[97], [98, 99]], [(97,), (98, 99)]),
    ],
)
async def test_every_form_of_prompt_is_taken(
    api: httpx.AsyncClient, engine: FakeEngine, prompt: Any, ids: list[tuple[int, ...]]
) -> None:
    answer = await complete(api, prompt)
    assert [submit.token_ids for submit in engine.submits] == ids
    assert answer["object"] == "text_completion"
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(ids)))
    assert answer["choices"][0]["text"] == "It is a red circle."
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))


async def test_prompts_times_n_are_numbered_prompt_by_prompt(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda s: Script(text=f"{bytes(s.token_ids).decode()}{s.sampling.seed}")
    answer = await complete(api, ["a", "b"], n=2, seed=5)
    assert [choice["text"] for choice in answer["choices"]] == ["a5", "a6", "b5", "b6"]
    assert answer["usage"]["prompt_tokens"] == 2
    found = await chunks(api, ["a", "b"], n=2, seed=5)
    assert [joined(found, i) for i in range(4)] == ["a5", "a6", "b5", "b6"]


@pytest.mark.parametrize("prompt", ["Look: ", list(b"Look: ")])
async def test_echo_puts_the_prompt_in_front(api: httpx.AsyncClient, prompt: Any) -> None:
    assert (await complete(api, prompt, echo=True))["choices"][0]["text"] == "Look: It is a red circle."
    assert joined(await chunks(api, prompt, echo=True)) == "Look: It is a red circle."


async def test_logprobs_stand_in_parallel_lists(api: httpx.AsyncClient) -> None:
    answer = await complete(api, "a", logprobs=1, max_tokens=3)
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["I", "t", " "],
        "token_logprobs": [-0.25] * 3,
        "top_logprobs": [{"I": -0.25}, {"t": -0.25}, {" ": -0.25}],
        "text_offset": [0, 1, 2],
    }
    found = await chunks(api, "a", logprobs=1, max_tokens=3)
    offsets = [
        o for c in found if c["choices"][0]["logprobs"] for o in c["choices"][0]["logprobs"]["text_offset"]
    ]
    assert offsets == [0, 1, 2]


@pytest.mark.parametrize("max_tokens", [0, 2])
async def test_an_echo_has_the_logprobs_of_the_prompt_too(api: httpx.AsyncClient, max_tokens: int) -> None:
    answer = await complete(api, "Hé", logprobs=1, max_tokens=max_tokens, echo=True)
    choice = answer["choices"][0]
    assert choice["text"] == "Hé" + "It"[:max_tokens]
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["tokens"] == ["H", "\ufffd", "\ufffd", "I", "t"][: 3 + max_tokens]
    assert choice["logprobs"]["token_logprobs"] == [None, *[-0.25] * (2 + max_tokens)]
    assert choice["logprobs"]["top_logprobs"][:1] == [None]
    assert choice["logprobs"]["top_logprobs"][3:] == [{"I": -0.25}, {"t": -0.25}][:max_tokens]
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2, 3][: 3 + max_tokens]
    assert answer["usage"]["completion_tokens"] == max_tokens


@pytest.mark.parametrize("max_tokens", [0, 2])
@pytest.mark.parametrize("prompt", ["Hé", "a", ["Hé", "abc"]])
async def test_a_streamed_echo_has_the_logprobs_of_the_whole_answer(
    api: httpx.AsyncClient, prompt: Any, max_tokens: int
) -> None:
    """The prompt is one event, whose scores come in parts as the prompt is computed."""
    fields = {"logprobs": 1, "max_tokens": max_tokens, "echo": True}
    whole, found = await complete(api, prompt, **fields), await chunks(api, prompt, **fields)
    for choice in whole["choices"]:
        mine = [c["choices"][0] for c in found if c["choices"][0]["index"] == choice["index"]]
        assert "".join(event["text"] for event in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            streamed = [value for event in mine if event["logprobs"] for value in event["logprobs"][name]]
            assert streamed == values, name


async def test_an_echo_alone_asks_the_engine_nothing_about_the_prompt(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    assert (await complete(api, "ab", max_tokens=0, echo=True))["choices"][0]["text"] == "ab"
    await complete(api, "ab", logprobs=3)
    assert [submit.sampling.prompt_logprobs for submit in engine.submits] == [None, None]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"max_tokens": 0}, "max_tokens", "set `echo`"),
        ({"max_tokens": 0, "echo": True, "min_new_tokens": 1}, "min_new_tokens", "more than the 0 tokens"),
    ],
)
async def test_what_no_echo_can_give_is_refused(
    api: httpx.AsyncClient, fields: dict[str, Any], param: str, message: str
) -> None:
    reply = await api.post("/v1/completions", json={"prompt": "a", **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert message in reply.json()["error"]["message"]


async def test_a_stream_ends_with_usage_where_asked(api: httpx.AsyncClient) -> None:
    found = await chunks(api, "abc", stream_options={"include_usage": True}, max_tokens=4)
    assert found[-1]["usage"]["prompt_tokens"] == 3
    assert found[-1]["usage"]["completion_tokens"] == 4
    assert found[-2]["choices"][0]["finish_reason"] == "length"


async def test_more_answers_than_one_request_may_have_are_refused(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    reply = await api.post("/v1/completions", json={"prompt": ["a"] * 65, "n": 2})
    assert reply.status_code == 400
    assert "130" in reply.json()["error"]["message"]
    assert engine.submits == []


async def test_the_likeliest_of_several_answers_are_returned_best_first(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = lambda s: Script(text=f"{s.sampling.seed}", logprob=-abs(s.sampling.seed - 7))
    answer = await complete(api, ["a", "b"], n=2, best_of=4, seed=5)  # seeds 5 to 8 for each prompt
    assert [choice["text"] for choice in answer["choices"]] == ["7", "6", "7", "6"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None] * 4
    assert answer["usage"]["completion_tokens"] == 8  # all that were made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"best_of": 1, "n": 2}, "`best_of`: 1 is less than the 2 answers of `n`"),
        ({"best_of": 2, "stream": True}, "needs every answer whole: drop `stream`"),
        ({"best_of": 100, "prompt": ["a", "b"]}, "2 prompts with `best_of` 100 are 200 answers"),
        ({"suffix": "x"}, "`suffix` is not served in this version: leave it out"),
    ],
)
async def test_what_cannot_be_chosen_from_is_refused(
    api: httpx.AsyncClient, fields: dict[str, Any], message: str
) -> None:
    reply = await api.post("/v1/completions", json={"prompt": "a", **fields})
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
