"""kill -9 of the engine under load, seen through HTTP."""

import asyncio
import os
import signal
import time
from typing import Any

import httpx
from live_server import live_server

ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Go on"}], "max_tokens": 1000, "ignore_eos": True,
}  # fmt: skip


async def one(client: httpx.AsyncClient, *, stream: bool) -> str:
    """Return how a request ended: `done`, the code of its one error, or what it said that it should not."""
    reply = await client.post("/v1/chat/completions", json={**ASK, "stream": stream})
    if not stream or reply.status_code != 200:
        return "done" if reply.status_code == 200 else f"{reply.status_code} {reply.json()['error']['code']}"
    done, errors = reply.text.count("data: [DONE]"), reply.text.count('"code":"engine_error"')
    return {(1, 0): "done", (0, 1): "event engine_error"}.get((done, errors), f"{done} ends, {errors} errors")


async def test_every_request_gets_one_answer_and_the_service_comes_back(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            asked = [asyncio.create_task(one(client, stream=bool(i % 2))) for i in range(12)]
            await asyncio.sleep(0)
            deadline = time.monotonic() + 20
            while "deployer_sequences_running 12.0" not in (await client.get("/metrics")).text:
                assert time.monotonic() < deadline, "the requests did not start"
                await asyncio.sleep(0.02)
            first = server.engine_pid()
            assert first is not None
            os.kill(first, signal.SIGKILL)
            ends = await asyncio.gather(*asked)
            assert sorted(set(ends)) == ["500 engine_error", "event engine_error"]

            health = await client.get("/health")
            assert health.status_code == 503
            assert "signal 9" in health.json()["fault"]
            refused = await client.post("/v1/chat/completions", json=ASK)
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            deadline = time.monotonic() + 60
            while (health := await client.get("/health")).status_code != 200:
                assert time.monotonic() < deadline, "the engine did not come back"
                await asyncio.sleep(0.1)
            assert health.json()["restarts"] == 1
            assert server.engine_pid() not in (None, first)
            again = await client.post("/v1/chat/completions", json={**ASK, "max_tokens": 3})
            assert again.status_code == 200
        assert server.end() == 0
