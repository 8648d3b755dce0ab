"""More requests than fit, and a server that drains."""

import asyncio
from typing import Any

import httpx
from fake_engine import FakeEngine, Script

from deployer.serve.admission import Admission

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


async def test_of_200_requests_at_once_those_that_fit_run_and_the_others_are_told_when_to_come_back(
    live: Any, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Event()
    server = await live(max_requests=16)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=20) as client:
        asked = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(200)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in asked) < 184:
                await asyncio.sleep(0.01)
        assert len(engine.submits) == 16
        assert (await client.get("/health")).status_code == 200
        engine.gate.set()
        replies = await asyncio.gather(*asked)
        assert [r.status_code for r in replies].count(200) == 16
        refused = [r for r in replies if r.status_code == 429]
        assert len(refused) == 184
        for reply in refused:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "queue_full"
            assert reply.json()["error"]["type"] == "rate_limit_error"
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert server.service.admission.in_flight == 0


async def test_a_draining_server_finishes_what_runs_and_takes_nothing_new(
    live: Any, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Event()
    server = await live()
    async with httpx.AsyncClient(base_url=server.url) as client:
        running = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        while not engine.submits:
            await asyncio.sleep(0.005)
        draining = asyncio.create_task(server.service.admission.drain(5))
        await asyncio.sleep(0)
        reply = await client.post("/v1/chat/completions", json=CHAT)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")
        assert reply.headers["connection"] == "close"
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        engine.gate.set()
        assert (await running).status_code == 200
        assert await draining is True


async def test_what_outlives_the_drain_is_aborted_with_an_answer(live: Any, engine: FakeEngine) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    server = await live()
    async with httpx.AsyncClient(base_url=server.url) as client:
        plain = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        streamed = asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, "stream": True}))
        while len(engine.submits) < 2:
            await asyncio.sleep(0.005)
        assert await server.service.admission.drain(0.05) is False
        server.service.abort_all()
        assert await server.service.admission.drain(5) is True
        assert (await plain).status_code == 503
        assert (await plain).json()["error"]["code"] == "shutting_down"
        assert '"code":"shutting_down"' in (await streamed).text
        assert "[DONE]" not in (await streamed).text


def test_retry_after_follows_how_long_requests_take() -> None:
    admission = Admission(2)
    assert admission.retry_after_s() == 1
    for _ in range(60):
        admission.leave(admission.enter() - 30)
    assert 14 <= admission.retry_after_s() <= 15
    for _ in range(200):
        admission.leave(admission.enter() - 3000)
    assert admission.retry_after_s() == 60


async def test_what_is_dropped_without_an_answer_is_answered_503(live: Any, engine: FakeEngine) -> None:
    engine.gate = asyncio.Event()  # the engine says nothing
    running = await live()
    async with httpx.AsyncClient(base_url=running.url, timeout=10) as client:
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        while running.service.admission.in_flight == 0:
            await asyncio.sleep(0.01)
        running.service.admission.drop()
        reply = await asked
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")
        assert running.service.admission.in_flight == 0
