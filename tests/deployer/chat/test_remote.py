"""A server as a partner: our own on the fake engine, and answers that no OpenAI server gives."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script

from deployer.chat.options import ChatOptions
from deployer.chat.remote import RemoteModel
from deployer.errors import UnavailableError
from deployer.prompt.image_errors import ImageError
from deployer.prompt.messages import Message
from engines.errors import RequestError

OPTIONS = ChatOptions(url="http://set.below", model_name=None, api_key=None, timeout_s=20)


def remote(url: str, **changes: Any) -> RemoteModel:
    fields = {name: getattr(OPTIONS, name) for name in OPTIONS.__slots__}
    return RemoteModel(url, ChatOptions(**{**fields, **changes}))


async def test_answers_stream_with_history_and_pictures(
    live: Callable[..., Any], engine: FakeEngine, tmp_path: Path
) -> None:
    server = await live()
    (tmp_path / "a.png").write_bytes(b"picture")

    def talk() -> tuple[str, list[str]]:
        with closing(remote(f"{server.url}/v1/")) as partner:
            question = Message.of("user", "What?", partner.picture(str(tmp_path / "a.png")))
            return partner.name, list(partner.answer([question, Message.of("assistant", "Hm"), question]))

    name, pieces = await asyncio.to_thread(talk)
    assert name == f"tiny at {server.url}"
    assert "".join(pieces) == "It is a red circle."
    assert len(pieces) > 3
    seen = server.service.prompts.seen[-1]
    assert [message.role for message in seen] == ["user", "assistant", "user"]
    assert seen[0].parts[0].source.endswith(base64.b64encode(b"picture").decode())


async def test_leaving_an_answer_aborts_it(live: Callable[..., Any], engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    server = await live()

    def leave() -> None:
        with (
            closing(remote(server.url)) as partner,
            closing(partner.answer([Message.of("user", "x")])) as one,
        ):
            next(one)

    await asyncio.to_thread(leave)
    for _ in range(400):
        if engine.running == 0 and engine.left_early:
            break
        await asyncio.sleep(0.005)
    assert len(engine.left_early) == 1


async def test_refusals_say_what_the_server_said(live: Callable[..., Any], engine: FakeEngine) -> None:
    server = await live(api_keys=["secret"])

    def ask(**changes: Any) -> str:
        with closing(remote(server.url, **changes)) as partner:
            return "".join(partner.answer([Message.of("user", "x")]))

    with pytest.raises(UnavailableError, match=f"^chat.url={server.url}: .*key"):
        await asyncio.to_thread(ask)
    assert await asyncio.to_thread(lambda: ask(api_key="secret")) == "It is a red circle."
    with pytest.raises(RequestError, match="model `other` is not served here"):
        await asyncio.to_thread(lambda: ask(api_key="secret", model_name="other"))
    engine.script = lambda _: Script(failed=("engine_error", "lost a step"), fail_after=2)
    with pytest.raises(RequestError, match="lost a step"):
        await asyncio.to_thread(lambda: ask(api_key="secret"))


def test_what_is_no_openai_server_is_told() -> None:
    with pytest.raises(UnavailableError, match="is this an OpenAI server"):
        remote("http://127.0.0.1:1")
    partner = remote("http://127.0.0.1:1", model_name="x")
    with pytest.raises(UnavailableError, match=r"^http://127\.0\.0\.1:1: "):
        list(partner.answer([Message.of("user", "x")]))
    for text, words in (("data: {", "is not what OpenAI's is"), ("data: [DONE]", ""), (": comment", "")):
        transport = httpx.MockTransport(lambda _, text=text: httpx.Response(200, text=f"{text}\n\n"))
        partner._client = httpx.Client(base_url="http://x", transport=transport)
        if words:
            with pytest.raises(UnavailableError, match=words):
                list(partner.answer([Message.of("user", "x")]))
        else:
            assert list(partner.answer([Message.of("user", "x")])) == []


def test_urls_are_left_to_the_server_and_files_must_be_there() -> None:
    partner = remote("http://127.0.0.1:1", model_name="x")
    assert partner.picture("https://host/a.png") == "https://host/a.png"
    with pytest.raises(ImageError, match=r"nothing\.png cannot be read"):
        partner.picture("nothing.png")
