"""The front: takes HTTP, sends each request to a replica, and repeats what a dead one lost.

A request is repeated as long as no byte of its answer has left: another replica answers it as if nothing had
happened. Behind the first byte an answer cannot be taken back; its stream ends with an error event.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from deployer.ray_serve.affinity import affinity_key
from deployer.ray_serve.messages import Asked, Head
from deployer.serve.anthropic_errors import error_event, speaks_anthropic
from deployer.serve.api_errors import ApiFault, fault_of_code

EVENT = b"data: "
PAUSE_S = 0.25  # before a repetition; Ray takes about as long to notice a death
NOT_PASSED_ON = (b"connection", b"content-length", b"transfer-encoding", b"x-request-id")  # Ray adds its own
log = logging.getLogger("deployer.ray_serve")


class Replicas(Protocol):
    """Sends a request to one of the replicas."""

    def ask(self, asked: Asked) -> AsyncGenerator[Head | bytes, None]:
        """Return the answer as it comes; raises ReplicaLostError where the replica dies."""
        ...


class ReplicaLostError(Exception):
    """The replica that had a request is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """An answer whose first byte is here."""

    head: Head
    first: bytes
    rest: AsyncGenerator[Head | bytes, None]


async def answer(replicas: Replicas, request: Request, *, retries: int) -> Response:
    """Answer one HTTP request."""
    body = await request.body()
    asked = Asked(
        method=request.method,
        path=request.url.path,
        query=request.scope["query_string"],
        headers=tuple((bytes(name), bytes(value)) for name, value in request.scope["headers"]),
        client=(request.client.host, request.client.port) if request.client is not None else None,
        body=body,
        key=affinity_key(body) if body else None,
        avoid=(),
    )
    begun = await first_bytes(replicas, asked, retries=retries)
    if isinstance(begun, ApiFault):
        return begun.response(asked.path, request_id=None)
    reply = StreamingResponse(_body(begun, asked.path), status_code=begun.head.status)
    reply.raw_headers = [pair for pair in begun.head.headers if pair[0].lower() not in NOT_PASSED_ON]
    reply.headers["x-replica"] = begun.head.replica
    return reply


async def first_bytes(replicas: Replicas, asked: Asked, *, retries: int) -> Begun | ApiFault:
    """Return an answer that has begun, by the first replica that lives long enough."""
    for attempt in range(retries + 1):
        begun = await _attempt(replicas, asked)
        if begun is not None and not (_is_away(begun) and attempt < retries):
            return begun
        log.warning("%s %s: attempt %d was lost; repeated", asked.method, asked.path, attempt + 1)
        if begun is not None:
            await begun.rest.aclose()
            asked = replace(asked, avoid=(*asked.avoid, begun.head.replica))
        await asyncio.sleep(PAUSE_S * 2**attempt)
    message = f"{retries + 1} replicas in turn died or were away before they answered: come back later"
    return fault_of_code("engine_unavailable", message)


async def _attempt(replicas: Replicas, asked: Asked) -> Begun | None:
    """Return what a replica begins to answer; None: it died before the first byte."""
    pieces = replicas.ask(asked)
    try:
        head = await anext(pieces)
        assert isinstance(head, Head), "an answer begins with its head"
        first = await _next(pieces)
        if head.status == 200 and first.startswith(EVENT):
            first += await _next(pieces)  # the first event only says who speaks: no token is lost with it
    except ReplicaLostError:
        return None
    return Begun(head=head, first=first, rest=pieces)


async def _next(pieces: AsyncGenerator[Head | bytes, None]) -> bytes:
    piece = await anext(pieces, b"")
    assert isinstance(piece, bytes), "there is one head"
    return piece


def _is_away(begun: Begun) -> bool:
    """Tell whether a replica says that it cannot serve now: its engine restarts, or it drains."""
    return begun.head.status == 503


async def _body(begun: Begun, path: str) -> AsyncGenerator[bytes, None]:
    yield begun.first
    try:
        async with aclosing(begun.rest) as rest:
            async for piece in rest:
                assert isinstance(piece, bytes), "there is one head"
                yield piece
    except ReplicaLostError:
        log.warning("replica %s died within an answer; its stream ends with an error", begun.head.replica)
        fault = fault_of_code("engine_unavailable", "the replica died within this answer: ask again")
        yield error_event(fault) if speaks_anthropic(path) else b"data: " + fault.json() + b"\n\n"
