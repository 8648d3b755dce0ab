"""What a server answers before its engine is there."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from fake_engine import FakeEngine

from deployer.config.load import load_config
from deployer.serve.starting import Front, Starting, create_starting_app

CONFIG = load_config(["+model=pocket_vl", "server.api_keys=[secret]"])
KEY = {"authorization": "Bearer secret"}


@pytest.fixture
def starting() -> Starting:
    return Starting.of(CONFIG)


@pytest.fixture
async def api(starting: Starting) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(Front(create_starting_app(starting)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=KEY) as client:
        yield client


async def test_health_says_starting_how_long_and_in_which_phase(
    api: httpx.AsyncClient, starting: Starting
) -> None:
    reply = await api.get("/health", headers={"authorization": ""})
    assert (reply.status_code, reply.json()["status"]) == (503, "starting")
    assert (reply.json()["phase"], reply.headers["retry-after"]) == ("checkpoint", "1")
    engine = starting.progress.engine = FakeEngine()
    engine.phase = "weights"
    await asyncio.sleep(0.06)
    later = (await api.get("/health")).json()
    assert later["phase"] == "weights"
    assert later["seconds"] > reply.json()["seconds"]
    engine.pixels.close()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses/r", "/docs"])
async def test_work_is_answered_503_with_the_time_to_come_back(api: httpx.AsyncClient, path: str) -> None:
    reply = await api.post(path, json={})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert "the engine is starting" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/anything", "/v1/chat/completion", "/admin/drain", "/v1/responses/a/b"])
async def test_a_path_that_is_never_served_is_a_404_from_the_beginning(
    api: httpx.AsyncClient, path: str
) -> None:
    reply = await api.post(path, json={})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "path_not_found")
    assert f"POST {path}: no such path" in reply.json()["error"]["message"]


async def test_the_model_is_listed_and_needs_the_key(api: httpx.AsyncClient) -> None:
    card = (await api.get("/v1/models")).json()["data"][0]
    assert (card["id"], card["max_model_len"]) == ("pocket_vl", None)
    assert (await api.get("/v1/models", headers={"authorization": ""})).status_code == 401


async def test_metrics_are_there_and_say_that_the_engine_is_not(
    api: httpx.AsyncClient, starting: Starting
) -> None:
    text = (await api.get("/metrics")).text
    assert "deployer_engine_up 0.0" in text
    engine = FakeEngine()
    starting.metrics.watch(engine)
    assert "deployer_engine_up 1.0" in (await api.get("/metrics")).text
    engine.pixels.close()


async def test_a_server_that_ends_says_so(api: httpx.AsyncClient, starting: Starting) -> None:
    assert await starting.admission.drain(1)
    assert (await api.get("/health")).json()["status"] == "draining"
    assert (await api.post("/v1/chat/completions", json={})).json()["error"]["code"] == "shutting_down"
