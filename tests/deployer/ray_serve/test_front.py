"""The front: repeats what a dead replica lost, passes on the rest as it comes."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from deployer.ray_serve import front
from deployer.ray_serve.front import ReplicaLostError, answer
from deployer.ray_serve.messages import Asked, Head

Script = list[Head | bytes | Exception]
LOST = ReplicaLostError("killed")


def head(status: int = 200, *, replica: str = "r") -> Head:
    return Head(
        status=status, headers=((b"content-type", b"text/plain"), (b"x-request-id", b"7")), replica=replica
    )


class Scripted:
    """Replicas that answer by a script, one a request."""

    def __init__(self, *scripts: Script) -> None:
        self.asked: list[Asked] = []
        self.num_ended = 0
        self._scripts = iter(scripts)

    async def ask(self, asked: Asked) -> AsyncGenerator[Head | bytes, None]:
        self.asked.append(asked)
        try:
            for piece in next(self._scripts):
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.num_ended += 1


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "PAUSE_S", 0.001)


async def post(replicas: Scripted, *, retries: int = 2, path: str = "/v1/chat/completions") -> httpx.Response:
    async def route(request: Request) -> Response:
        return await answer(replicas, request, retries=retries)

    app = Starlette(routes=[Route("/{path:path}", route, methods=["POST"])])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        return await client.post(f"{path}?x=1", content=b'{"prompt": "hello"}')


async def test_an_answer_is_passed_on_with_its_status_and_headers() -> None:
    replicas = Scripted([head(404, replica="a"), b"no ", b"such model"])
    reply = await post(replicas)
    assert (reply.status_code, reply.text, reply.headers["x-replica"]) == (404, "no such model", "a")
    assert "x-request-id" not in reply.headers, "Ray's proxy adds it"
    (asked,) = replicas.asked
    assert (asked.path, asked.query, asked.body) == ("/v1/chat/completions", b"x=1", b'{"prompt": "hello"}')
    assert asked.key is not None


@pytest.mark.parametrize("begun", [[], [head()], [head(), b"data: {}\n\n"]])
async def test_a_death_before_the_first_token_is_not_noticed(begun: Script) -> None:
    replicas = Scripted([*begun, LOST], [*begun, LOST], [head(replica="c"), b"whole"])
    reply = await post(replicas)
    assert (reply.status_code, reply.text, reply.headers["x-replica"]) == (200, "whole", "c")


async def test_a_replica_that_is_away_is_avoided() -> None:
    replicas = Scripted([head(503, replica="a"), b"restarting"], [head(replica="b"), b"whole"])
    assert (await post(replicas)).text == "whole"
    assert replicas.asked[1].avoid == ("a",)


async def test_the_last_refusal_is_told_as_it_is() -> None:
    reply = await post(Scripted([head(503), b"one"], [head(503), b"two"]), retries=1)
    assert (reply.status_code, reply.text) == (503, "two")


async def test_many_deaths_are_a_503_with_a_time_to_come_back() -> None:
    replicas = Scripted([LOST], [LOST], [LOST])
    reply = await post(replicas)
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "engine_unavailable"
    assert reply.headers["retry-after"] and len(replicas.asked) == 3


async def test_a_death_within_a_stream_ends_it_with_an_error_event() -> None:
    stream: Script = [head(), b"data: {1}\n\n", b"data: {2}\n\n", b"data: {3}\n\n", LOST]
    reply = await post(Scripted(stream))
    events = reply.text.strip().split("\n\n")
    assert events[:3] == ["data: {1}", "data: {2}", "data: {3}"]
    assert len(events) == 4 and '"code":"engine_unavailable"' in events[3]


async def test_faults_have_the_shape_of_the_path_s_api() -> None:
    reply = await post(Scripted([LOST], [LOST]), retries=1, path="/v1/messages")
    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "overloaded_error")
    stream: Script = [head(), b"event: message_start\ndata: {}\n\n", LOST]
    end = (await post(Scripted(stream), path="/v1/messages")).text.strip().split("\n\n")[-1]
    assert end.startswith('event: error\ndata: {"type":"error"')


async def test_a_client_that_leaves_within_a_stream_ends_it_at_the_replica() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    replicas = Scripted([head(), *[b"data: {}\n\n"] * 9])
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
    reply = await answer(replicas, Request(scope, receive), retries=0)
    assert isinstance(reply, StreamingResponse)
    body: Any = reply.body_iterator
    await anext(body)
    await anext(body)
    assert replicas.num_ended == 0
    await body.aclose()
    assert replicas.num_ended == 1
