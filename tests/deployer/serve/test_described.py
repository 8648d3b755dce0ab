"""GET /v1/deployment."""

from collections.abc import Callable

import httpx
from serving_configs import RUNNING

from deployer.serve.app import create_app
from deployer.serve.service import Service


async def test_a_server_tells_what_it_runs(api: httpx.AsyncClient) -> None:
    reply = await api.get("/v1/deployment")
    assert reply.status_code == 200
    assert reply.json()["fingerprint"] == RUNNING.fingerprint
    assert reply.json()["config"] == RUNNING.config


async def test_what_a_server_runs_needs_a_key_like_all_of_v1(serve: Callable[..., Service]) -> None:
    transport = httpx.ASGITransport(create_app(serve(api_keys=["secret"])))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/v1/deployment")).status_code == 401
        known = await client.get("/v1/deployment", headers={"authorization": "Bearer secret"})
        assert known.status_code == 200
        assert "secret" not in known.text
