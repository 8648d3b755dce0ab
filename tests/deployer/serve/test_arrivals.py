"""Bodies that come slowly or never: they hold no place, and end in time."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def half_sent(url: str, body: bytes, *, length: int | None) -> Connection:
    """Send the head of a chat and a part of its body; `length`: None for a chunked one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{size}\r\n\r\n".encode())
    writer.write(body if length is not None else f"{len(body):x}\r\n".encode() + body + b"\r\n")
    await writer.drain()
    return reader, writer


async def answer_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    """Return head and error of an answer after which the connection ends."""
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return head.decode().lower(), json.loads(body)["error"]


async def has_read(server: Any) -> None:
    """Wait until the server has taken in what was sent."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(20):
            await client.get("/health")


async def test_half_sent_bodies_take_no_place_from_those_that_are_whole(live: Any) -> None:
    server = await live(max_requests=4)
    slow = [await half_sent(server.url, b"{", length=5000) for _ in range(4)]
    await has_read(server)
    assert server.service.admission.in_flight == 0
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/ready")).status_code == 200
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    for _, writer in slow:
        writer.close()


@pytest.mark.parametrize(("length", "came"), [(5000, "1 of 5000 bytes came"), (None, "1 bytes came")])
async def test_a_body_that_is_not_whole_in_time_is_a_408_and_the_connection_ends(
    live: Any, length: int | None, came: str
) -> None:
    server = await live(body_timeout_s=0.2)
    reader, writer = await half_sent(server.url, b"{", length=length)
    head, error = await answer_of(reader)
    assert head.startswith("http/1.1 408")
    assert "x-request-id: " in head
    assert (error["type"], error["code"]) == ("invalid_request_error", "body_timeout")
    assert came in error["message"]
    assert "`server.body_timeout_s` allows 0.2 s" in error["message"]
    writer.close()
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_a_body_in_pieces_is_read_as_one(live: Any, engine: FakeEngine) -> None:
    server = await live(body_timeout_s=5)
    body = json.dumps(CHAT).encode()
    reader, writer = await half_sent(server.url, body[:10], length=len(body))
    await has_read(server)
    assert not engine.submits
    writer.write(body[10:])
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_whole_body_finds_no_place_where_they_were_taken_meanwhile(
    live: Any, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Event()
    server = await live(max_requests=1)
    body = json.dumps(CHAT).encode()
    reader, writer = await half_sent(server.url, body[:10], length=len(body))
    await has_read(server)
    async with httpx.AsyncClient(base_url=server.url) as client:
        running = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        while not engine.submits:
            await asyncio.sleep(0.005)
        writer.write(body[10:])
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 429")
        engine.gate.set()
        assert (await running).status_code == 200
    writer.close()


async def test_bodies_on_their_way_in_are_bounded_together(live: Any) -> None:
    server = await live(max_requests=2, max_body_bytes=1000)
    slow = [await half_sent(server.url, b"x" * 900, length=1000) for _ in range(2)]
    await has_read(server)
    reader, writer = await half_sent(server.url, b"x" * 900, length=1000)
    head, error = await answer_of(reader)
    assert head.startswith("http/1.1 429")
    assert "retry-after: 1" in head
    assert error["code"] == "queue_full"
    assert "1800 bytes of bodies are on their way in" in error["message"]
    for _, each in slow:
        each.close()
    writer.close()
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
