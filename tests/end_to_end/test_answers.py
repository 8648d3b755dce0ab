"""A real engine process behind HTTP: the same answers streamed, not streamed, alone and in company."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import openai
import pytest
from live_server import LiveServer
from PIL import Image


def picture(size: tuple[int, int] = (80, 40), colour: str = "red", kind: str = "PNG") -> str:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def asking(text: str, *pictures: str) -> list[Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


@pytest.fixture
async def client(server: LiveServer) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        yield api


async def answer(client: openai.AsyncOpenAI, messages: list[Any], **fields: Any) -> str:
    extra = {"ignore_eos": True, **fields.pop("extra_body", {})}
    found = await client.chat.completions.create(
        model="tiny", messages=messages, **{"max_tokens": 12, "temperature": 0, **fields}, extra_body=extra
    )
    return found.choices[0].message.content or ""


async def test_a_stream_is_the_answer_in_pieces(client: openai.AsyncOpenAI) -> None:
    messages = asking("What is it?", picture())
    whole = await answer(client, messages)
    stream = await client.chat.completions.create(
        model="tiny",
        messages=messages,
        max_tokens=12,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    assert whole
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == whole


async def test_another_picture_gives_another_answer(client: openai.AsyncOpenAI) -> None:
    red = await answer(client, asking("What is it?", picture(colour="red")))
    blue = await answer(client, asking("What is it?", picture(colour="blue")))
    assert red != blue
    assert await answer(client, asking("What is it?", picture(colour="red"))) == red


async def test_a_seed_gives_the_same_text_alone_in_company_and_as_one_of_n(
    client: openai.AsyncOpenAI,
) -> None:
    async def seeded(seed: int) -> str:
        return await answer(client, asking("Tell me"), temperature=1, seed=seed)

    alone = [await seeded(seed) for seed in (1, 2, 3)]
    assert len(set(alone)) > 1
    assert await asyncio.gather(*(seeded(seed) for seed in (1, 2, 3))) == alone
    found = await client.chat.completions.create(
        model="tiny", messages=asking("Tell me"), max_tokens=12, temperature=1, seed=1, n=3,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    assert [choice.message.content for choice in found.choices] == alone


async def test_a_stop_string_cuts_what_would_have_been_said(client: openai.AsyncOpenAI) -> None:
    whole = await answer(client, asking("Go on"), max_tokens=40)
    word = whole[5:8]
    found = await client.chat.completions.create(
        model="tiny", messages=asking("Go on"), max_tokens=40, temperature=0, stop=[word],
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    choice = found.choices[0]
    assert choice.message.content == whole[: whole.index(word)]
    assert choice.finish_reason == "stop"
    assert choice.model_extra is not None
    assert choice.model_extra["stop_reason"] == word


async def test_a_question_asked_again_comes_from_the_prefix_cache(client: openai.AsyncOpenAI) -> None:
    messages = asking("A long question that fills some pages " * 8, picture())
    cached = []
    for _ in range(2):
        found = await client.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
        assert found.usage is not None
        assert found.usage.prompt_tokens_details is not None
        cached.append(found.usage.prompt_tokens_details.cached_tokens or 0)
    # The first time only what every conversation starts with may be there.
    assert cached[1] > found.usage.prompt_tokens - 16 > cached[0]


async def test_logprobs_name_the_chosen_token(client: openai.AsyncOpenAI) -> None:
    found = await client.chat.completions.create(
        model="tiny", messages=asking("Go on"), max_tokens=3, temperature=0, logprobs=True, top_logprobs=3,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    logprobs = found.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first = logprobs.content[0]
    assert first.logprob == max(top.logprob for top in first.top_logprobs)
    assert first.token == first.top_logprobs[0].token


async def test_completions_take_token_ids(server: LiveServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        body = {"prompt": [[10, 20, 30], [11, 21]], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
        found = (await client.post("/v1/completions", json=body)).json()
        assert len(found["choices"]) == 2
        assert found["usage"]["completion_tokens"] == 8
        assert found["usage"]["prompt_tokens"] == 5


async def test_random_weights_write_json_of_a_schema(client: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
    for seed in range(3):
        found = await client.chat.completions.create(
            model="tiny", messages=asking("What is it?", picture()), max_tokens=400, temperature=0.8,
            seed=seed, response_format=form,
        )  # fmt: skip
        assert found.choices[0].finish_reason == "stop"
        answer = json.loads(found.choices[0].message.content or "")
        assert set(answer) == {"colour", "sure"}
        assert answer["colour"] in ("red", "blue") and isinstance(answer["sure"], bool)
