"""/tokenize, /detokenize and /v1/encode."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployer.serve.app import create_app
from deployer.serve.service import Service

PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def post(api: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    reply = await api.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_text_becomes_tokens_with_or_without_bos(api: httpx.AsyncClient) -> None:
    found = await post(api, "/tokenize", prompt="ab")
    assert found == {"count": 3, "max_model_len": 4096, "tokens": [256, 97, 98], "token_strs": None}
    bare = await post(api, "/tokenize", prompt="ab", add_special_tokens=False, return_token_strs=True)
    assert (bare["tokens"], bare["token_strs"]) == ([97, 98], ["a", "b"])
    assert (await post(api, "/tokenize", prompt="", add_special_tokens=False))["count"] == 0


async def test_a_conversation_is_counted_with_its_pictures(api: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": [PNG, {"type": "text", "text": "?"}]}]
    whole = await post(api, "/tokenize", messages=messages)
    bare = await post(api, "/tokenize", messages=messages, add_generation_prompt=False)
    assert bare["tokens"] == [*b"user:", 257, 257, 257, 257, *b"?"]
    assert whole["tokens"] == [*bare["tokens"], *b"answer:"]


async def test_tokens_become_the_text_that_they_were(api: httpx.AsyncClient) -> None:
    assert await post(api, "/detokenize", tokens=[*"grüß".encode(), 256]) == {"prompt": "grüß<eos>"}
    reply = await api.post("/detokenize", json={"tokens": [1, 258]})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "`tokens`: [258]: token ids end at 257"


async def test_encode_takes_one_text_or_several_and_the_template(api: httpx.AsyncClient) -> None:
    assert await post(api, "/v1/encode", input="a") == {"input_ids": [256, 97], "length": 2}
    several = await post(api, "/v1/encode", input=["a", "bc"], add_bos=False)
    assert several == {"input_ids": [[97], [98, 99]], "length": [1, 2]}
    templated = await post(api, "/v1/encode", input="a", do_preprocess=True)
    assert templated["input_ids"] == list(b"user:aanswer:")


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}])
async def test_a_text_and_a_conversation_exclude_each_other(
    api: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    reply = await api.post("/tokenize", json=body)
    assert reply.status_code == 400
    assert "must hold `prompt` or `messages`, one of them" in reply.json()["error"]["message"]


async def test_another_model_is_a_404(api: httpx.AsyncClient) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": []})):
        assert (await api.post(path, json={"model": "other", **body})).status_code == 404


async def test_counting_needs_a_key_where_there_are_keys(serve: Callable[..., Service]) -> None:
    transport = httpx.ASGITransport(create_app(serve(api_keys=["right"])))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        assert (await api.post("/tokenize", json={"prompt": "a"})).status_code == 401
        headers = {"authorization": "Bearer right"}
        assert (await api.post("/tokenize", json={"prompt": "a"}, headers=headers)).status_code == 200
