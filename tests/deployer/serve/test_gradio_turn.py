"""Turns of the Gradio chat against our own API on the fake engine; needs no Gradio."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, Script

from deployer.prompt.image_errors import ImageError
from deployer.serve.gradio_turn import OwnApi
from engines.errors import RequestError

QUESTION = {"text": "What?", "files": []}


def said(url: str, question: Any, *history: Any, api_key: str = "") -> list[str]:
    api = OwnApi(url=url, model_name="tiny", trusted=None)
    return list(api.answer(question, history, api_key=api_key))


async def test_the_answer_grows_and_the_history_is_sent_with_its_pictures(
    live: Callable[..., Any], tmp_path: Path
) -> None:
    server = await live()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    history = [
        {"role": "user", "content": [{"type": "file", "file": {"path": str(tmp_path / "a")}}]},
        {"role": "user", "content": [{"type": "text", "text": "This?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Hm"}]},
    ]
    question = {"text": "And this?", "files": [str(tmp_path / "b")]}
    texts = await asyncio.to_thread(said, server.url, question, *history)
    assert texts[-1] == "It is a red circle."
    assert all(later.startswith(text) for text, later in pairwise(texts))
    first, answer, last = server.service.prompts.seen[-1]
    assert (first.role, first.parts[1].text, answer.role, last.parts[1].text) == (
        "user", "This?", "assistant", "And this?",
    )  # fmt: skip
    for message, content in ((first, b"a"), (last, b"b")):
        assert message.parts[0].source.endswith(base64.b64encode(content).decode())


async def test_the_key_is_the_visitors(live: Callable[..., Any]) -> None:
    server = await live(api_keys=["secret"])
    assert (await asyncio.to_thread(said, server.url, QUESTION, api_key=" secret "))[-1]
    for wrong in ("", "guess"):
        with pytest.raises(RequestError, match="key"):
            await asyncio.to_thread(said, server.url, QUESTION, api_key=wrong)


async def test_leaving_a_turn_ends_its_sequence(live: Callable[..., Any], engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    server = await live()

    def leave() -> None:
        api = OwnApi(url=server.url, model_name="tiny", trusted=None)
        with closing(api.answer(QUESTION, [], api_key="")) as texts:
            next(texts)

    await asyncio.to_thread(leave)
    async with asyncio.timeout(5):
        while not engine.left_early:
            await asyncio.sleep(0.005)


async def test_what_cannot_be_sent_is_said(live: Callable[..., Any], tmp_path: Path) -> None:
    server = await live()
    component = {"role": "user", "content": [{"type": "component"}]}
    with pytest.raises(RequestError, match="holds a `component`: only text and pictures are sent"):
        await asyncio.to_thread(said, server.url, QUESTION, component)
    with pytest.raises(ImageError, match="gone cannot be read"):
        await asyncio.to_thread(said, server.url, {"text": "", "files": [str(tmp_path / "gone")]})
