"""The openai package as client, sync and async, against a live server."""

import asyncio
from typing import Any

import openai
import pytest
from fake_engine import FakeEngine, Script
from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "be brief"},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "What is it?"},
        ],
    },
]


@pytest.fixture
async def url(live: Any) -> str:
    return f"{(await live(api_keys=['k'])).url}/v1"


async def test_an_async_client_gets_answers_and_streams(url: str, engine: FakeEngine) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, extra_body={"top_k": 5, "repetition_penalty": 1.2}
        )
        assert answer.choices[0].message.content == "It is a red circle."
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert engine.submits[0].sampling.top_k == 5
        text, usage = "", None
        async for chunk in await client.chat.completions.create(
            model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage or usage
        assert text == "It is a red circle."
        assert usage is not None
        assert usage.completion_tokens == 19
        assert [model.id async for model in await client.models.list()] == ["tiny"]
        assert (await client.completions.create(model="tiny", prompt="x", max_tokens=2)).choices[
            0
        ].text == "It"


async def test_a_sync_client_gets_answers_and_streams(url: str) -> None:
    def ask() -> tuple[str | None, str, str]:
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            answer = client.chat.completions.create(model="tiny", messages=MESSAGES)
            stream = client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            plain = client.completions.create(model="tiny", prompt="x", stream=True)
            return answer.choices[0].message.content, text, "".join(chunk.choices[0].text for chunk in plain)

    assert await asyncio.to_thread(ask) == ("It is a red circle.",) * 3


async def test_errors_arrive_as_the_package_s_exceptions(url: str, engine: FakeEngine) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="not served here"):
            await client.chat.completions.create(model="other", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError, match="temperature"):
            await client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=9)
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()
        engine.script = lambda _: Script(failed=("engine_error", "it broke"), fail_after=2)
        stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="it broke"):
            async for _ in stream:
                pass
        engine.state = "restarting"
        with pytest.raises(openai.InternalServerError, match="restarting") as caught:
            await client.chat.completions.create(model="tiny", messages=MESSAGES)
        assert caught.value.status_code == 503


async def test_logprobs_parse(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=2, n=2
        )
        assert len(answer.choices) == 2
        logprobs = answer.choices[1].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert logprobs.content[0].top_logprobs[1].token == "J"
