"""What operators may do, and who may not."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx
import pytest
from fake_engine import FakeEngine, Script

from deployer.serve.app import create_app
from deployer.serve.service import Service

CHAT = {"messages": [{"role": "user", "content": "Go on"}]}
KEY = {"authorization": "Bearer operator"}


@pytest.fixture
def service(serve: Callable[..., Service], tmp_path: Path) -> Service:
    file = tmp_path / "keys"
    file.write_text("operator\n")
    return serve(admin_keys_file=str(file), api_keys=["client"])


@pytest.fixture
async def operated(service: Service) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


async def test_a_drained_server_takes_requests_again(operated: httpx.AsyncClient) -> None:
    client = {"authorization": "Bearer client"}
    answer = await operated.post("/admin/drain", headers=KEY)
    assert answer.json() == {"draining": True, "in_flight": 0}
    refused = await operated.post("/v1/chat/completions", json=CHAT, headers=client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert (await operated.post("/admin/resume", headers=KEY)).json()["draining"] is False
    assert (await operated.post("/v1/chat/completions", json=CHAT, headers=client)).status_code == 200


async def test_one_request_is_ended_and_its_client_told(
    operated: httpx.AsyncClient, service: Service, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    caplog.set_level(logging.INFO, "deployer.serve")
    client = {"authorization": "Bearer client"}
    asking = asyncio.create_task(operated.post("/v1/chat/completions", json={**CHAT, "n": 2}, headers=client))
    while len(service.running) < 2:
        await asyncio.sleep(0.005)
    name = min(service.running).rpartition("-")[0]
    ended = await operated.post("/admin/abort", json={"id": name}, headers=KEY)
    assert ended.json() == {"id": name, "sequences": 2}
    reply = await asking
    assert (reply.status_code, reply.headers["x-should-retry"]) == (503, "false")
    assert "retry-after" not in reply.headers
    error = reply.json()["error"]
    assert (error["code"], "by an operator" in error["message"]) == ("aborted", True)
    assert "shut" not in error["message"]
    assert f"request {name} is aborted by an operator, sequences=2" in caplog.text
    assert f"error=aborted completion={name} " in caplog.text
    gone = await operated.post("/admin/abort", json={"id": name}, headers=KEY)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "request_not_found")


async def test_the_stream_of_a_request_that_an_operator_ends_says_so(
    operated: httpx.AsyncClient, service: Service, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.001)
    client = {"authorization": "Bearer client"}
    body = {**CHAT, "stream": True}
    asking = asyncio.create_task(operated.post("/v1/chat/completions", json=body, headers=client))
    while not engine.submits:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    name = min(service.running).rpartition("-")[0]
    await operated.post("/admin/abort", json={"id": name}, headers=KEY)
    *_, last = [line for line in (await asking).text.splitlines() if line]
    assert f'"message":"`{name}` was aborted by an operator' in last
    assert '"code":"aborted"' in last


async def test_the_prefix_cache_is_flushed_by_operators_alone(
    operated: httpx.AsyncClient, engine: FakeEngine
) -> None:
    refused = await operated.post("/admin/flush", headers={"authorization": "Bearer client"})
    assert (refused.status_code, engine.flushes) == (401, 0)
    answer = await operated.post("/admin/flush", headers=KEY)
    assert (answer.status_code, set(answer.json()), engine.flushes) == (200, {"pages_cached"}, 1)


@pytest.mark.parametrize("key", ["client", "Operator", ""])
async def test_a_client_s_key_opens_nothing(operated: httpx.AsyncClient, key: str) -> None:
    for path in ("/admin/drain", "/admin/resume", "/admin/abort", "/admin/flush"):
        reply = await operated.post(path, json={"id": "x"}, headers={"authorization": f"Bearer {key}"})
        assert reply.status_code == 401


async def test_without_keys_there_are_no_such_paths(api: httpx.AsyncClient) -> None:
    assert (await api.post("/admin/drain", headers=KEY)).status_code == 404
