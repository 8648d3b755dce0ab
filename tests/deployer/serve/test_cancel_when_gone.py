"""A client that goes away, at every stage: the engine hears of it and the server has its place back."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script

from deployer.serve.cancel_when_gone import CancelWhenGone
from deployer.serve.request_record import KEY, RequestRecord

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_leaving_a_stream_ends_the_sequence(live: Any, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    server = await live()
    async with (
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as reply,
    ):
        async for _ in reply.aiter_lines():
            break
        assert engine.running == 1
    await until(lambda: engine.running == 0)
    assert engine.left_early == [engine.submits[0].request_id]
    await until(lambda: server.service.admission.in_flight == 0)
    assert len(server.service.running) == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_leaving_an_answer_that_is_not_streamed_ends_its_sequences(
    live: Any, engine: FakeEngine, n: int
) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    server = await live()
    async with httpx.AsyncClient(base_url=server.url) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json={**CHAT, "n": n}, timeout=0.2)
    await until(lambda: engine.running == 0)
    assert len(engine.left_early) == n
    await until(lambda: server.service.admission.in_flight == 0)


async def test_leaving_while_pictures_are_fetched_submits_nothing(
    live: Any, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deployer.serve")
    server = await live()
    cancelled = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server.service.prompts.chat = slow
    async with httpx.AsyncClient(base_url=server.url) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=CHAT, timeout=0.1)
    async with asyncio.timeout(5):
        await cancelled.wait()
    await until(lambda: server.service.admission.in_flight == 0)
    assert engine.submits == []
    await until(lambda: "error=client_gone" in caplog.text)
    assert "status=499" in caplog.text


async def test_leaving_inside_the_body_is_no_fault_of_ours(
    live: Any, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deployer.serve")
    server = await live()
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    writer.write(b'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"messages"')
    await writer.drain()
    async with httpx.AsyncClient(base_url=server.url) as client:
        await client.get("/health")  # by then the half body is there
    writer.close()
    await until(lambda: "path=/v1/chat/completions status=400" in caplog.text)
    assert server.service.admission.in_flight == 0
    assert "Traceback" not in caplog.text


async def test_a_connection_is_used_again_after_an_answer(live: Any, engine: FakeEngine) -> None:
    server = await live()
    async with httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(20):
            reply = await client.post("/v1/chat/completions", json=CHAT)
            assert reply.json()["choices"][0]["finish_reason"] == "stop"
    assert engine.left_early == []


async def test_a_client_that_leaves_behind_its_answer_cancels_nothing() -> None:
    answered = asyncio.Event()
    finished = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal finished
        await receive()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        answered.set()
        await asyncio.sleep(0.01)
        finished = True

    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (message := next(messages, None)) is not None:
            return message
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    record = RequestRecord(id="r", method="POST", path="/")
    await CancelWhenGone(app)({"type": "http", KEY: record}, receive, send)
    assert finished
    assert record.error is None
