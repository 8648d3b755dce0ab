"""The layers around the routes: ids, keys, CORS, paths that don't exist, faults of ours."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fake_engine import FakeEngine, Script

from deployer.serve.app import create_app
from deployer.serve.service import Service

CHAT = {"messages": [{"role": "user", "content": "a secret question"}]}


@asynccontextmanager
async def client(service: Service) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


async def test_a_request_id_is_given_or_kept(api: httpx.AsyncClient) -> None:
    assert len((await api.get("/health")).headers["x-request-id"]) == 24
    kept = await api.get("/health", headers={"x-request-id": "order-17"})
    assert kept.headers["x-request-id"] == "order-17"
    for odd in ("a b", "x" * 65, 'a"b', "ü"):
        replaced = await api.get("/health", headers={"x-request-id": odd.encode()})
        assert len(replaced.headers["x-request-id"]) == 24


async def test_a_path_or_method_that_is_not_served_has_openai_s_error_shape(api: httpx.AsyncClient) -> None:
    reply = await api.get("/v1/embeddings")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "path_not_found")
    assert reply.json()["error"]["message"] == (
        "GET /v1/embeddings: no such path; GET / lists those that are served"
    )
    reply = await api.get("/v1/chat/completions")
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
    assert reply.json()["error"]["message"] == "GET /v1/chat/completions: the path takes POST"


async def test_v1_needs_one_of_the_keys(serve: Callable[..., Service]) -> None:
    async with client(serve(api_keys=["right", "also-right"])) as api:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic right"},
            {"authorization": "right"},
        ):
            reply = await api.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert (reply.status_code, reply.json()["error"]["type"]) == (401, "authentication_error")
            assert (await api.get("/v1/models", headers=headers)).status_code == 401
        for key in ("right", "also-right"):
            headers = {"authorization": f"Bearer {key}"}
            assert (await api.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200
        assert (await api.get("/health")).status_code == 200
        assert (await api.get("/metrics")).status_code == 200


async def test_a_page_of_a_listed_origin_may_call_and_needs_no_key_to_ask(
    serve: Callable[..., Service],
) -> None:
    async with client(serve(cors_origins=["https://app.example"], api_keys=["k"])) as api:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        reply = await api.options("/v1/chat/completions", headers={"origin": "https://app.example", **ask})
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://app.example"
        reply = await api.options("/v1/chat/completions", headers={"origin": "https://evil.example", **ask})
        assert "access-control-allow-origin" not in reply.headers


async def test_a_page_of_a_listed_origin_may_read_our_own_headers(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.state = "restarting"
    async with client(serve(cors_origins=["https://app.example"])) as api:
        reply = await api.post("/v1/chat/completions", json=CHAT, headers={"origin": "https://app.example"})
    assert reply.status_code == 503
    exposed = {name.strip() for name in reply.headers["access-control-expose-headers"].split(",")}
    assert exposed == {"x-request-id", "retry-after", "www-authenticate", "x-replica"}
    assert reply.headers["x-request-id"] and reply.headers["retry-after"]


async def test_without_origins_no_page_may_call(api: httpx.AsyncClient) -> None:
    reply = await api.get("/v1/models", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in reply.headers


async def test_a_fault_of_ours_is_a_500_whose_id_is_in_the_log(
    api: httpx.AsyncClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> Script:
        raise ZeroDivisionError("hidden detail")

    engine.script = broken
    for stream in (False, True):
        caplog.clear()
        reply = await api.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        assert reply.status_code == 500
        error = reply.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "engine_error")
        assert reply.headers["x-request-id"] in error["message"]
        assert "hidden" not in reply.text
        assert "hidden detail" in caplog.text
        assert reply.headers["x-request-id"] in caplog.text


async def test_the_log_line_tells_what_happened_and_no_secrets(
    serve: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deployer.serve")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,U0VDUkVU"}}
    text = {"type": "text", "text": "a secret question"}
    body = {"messages": [{"role": "user", "content": [picture, text]}], "user": 'eve"\nfake line'}
    async with client(serve(api_keys=["sesame"])) as api:
        headers = {"authorization": "Bearer sesame", "x-request-id": "r1"}
        await api.post("/v1/chat/completions", json=body, headers=headers)
        await api.get("/health")
    lines = [record.getMessage() for record in caplog.records if record.name == "deployer.serve"]
    assert len(lines) == 1
    assert lines[0].startswith("request=r1 method=POST path=/v1/chat/completions status=200 ms=")
    for part in ("images=1", "image_tokens=4", "output_tokens=19", "finish=stop", "stream=False", "ttft_ms="):
        assert part in lines[0]
    assert r'user="eve\"\nfake line"' in lines[0]
    for secret in ("sesame", "U0VDUkVU", "secret question"):
        assert secret not in caplog.text


async def test_a_refused_request_is_logged_with_its_code(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deployer.serve")
    await api.post("/v1/chat/completions", json={})
    assert "status=400" in caplog.text
    assert "error=invalid_request" in caplog.text


async def test_an_engine_that_is_away_is_a_503_before_any_work(
    api: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.state, engine.fault = "restarting", "the engine process 7 was ended by signal 9"
    reply = await api.post("/v1/chat/completions", json=CHAT)
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "2", "as long again as it has been away"
    assert "signal 9" in reply.json()["error"]["message"]
    assert engine.submits == []


async def test_an_error_of_the_prompt_keeps_its_code(api: httpx.AsyncClient) -> None:
    picture = {"type": "image_url", "image_url": {"url": "ftp://x"}}
    reply = await api.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": [picture]}]}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_image")
