"""Responses that are kept by a server of several processes: once, whichever process is asked."""

import asyncio
import base64
import io
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from live_server import LiveServer, live_server
from PIL import Image
from several_processes import SEVERAL, client_of, fronts_of, until

PATH = "/v1/responses"


@asynccontextmanager
async def answering(*words: str) -> AsyncIterator[tuple[LiveServer, httpx.AsyncClient]]:
    """Yield a server of two processes and a client each of whose requests is a connection."""
    with live_server(*words, *SEVERAL) as server:
        async with client_of(server) as client:
            client.headers["connection"] = "close"
            yield server, client
        assert server.end() == 0


async def ask(client: httpx.AsyncClient, given: Any, **fields: Any) -> dict[str, Any]:
    reply = await client.post(PATH, json={"input": given, "max_output_tokens": 4, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def asked_of(server: LiveServer, method: str, *, status: int) -> set[str]:
    """Return the processes that answered requests of a method with a status."""
    line = re.compile(rf"process=(\d+) request=\S+ method={method} path={PATH}\S* status={status} ")
    return {found[1] for text in list(server.lines) for found in line.finditer(text)}


async def both_are_asked(
    server: LiveServer, client: httpx.AsyncClient, given: str, **fields: Any
) -> list[dict[str, Any]]:
    """Ask, eight at a time, until both processes have answered; returns the responses."""
    made: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while asked_of(server, "POST", status=200) != {"0", "1"} or not made:
            made += await asyncio.gather(*(ask(client, given, **fields) for _ in range(8)))
    return made


async def each_answers(server: LiveServer, client: httpx.AsyncClient, path: str, status: int) -> list[bytes]:
    """Ask until both processes have answered with this status; returns the bodies."""
    found: list[bytes] = []

    async def get() -> None:
        reply = await client.get(path)
        assert reply.status_code == status, reply.text
        found.append(reply.content)

    async with asyncio.timeout(30):
        while asked_of(server, "GET", status=status) != {"0", "1"}:
            await asyncio.gather(*(get() for _ in range(4)))
    return found


def picture() -> dict[str, Any]:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "input_image", "image_url": url}


async def test_whichever_process_is_asked_reads_continues_and_forgets(tiny_words: tuple[str, ...]) -> None:
    async with answering(*tiny_words) as (server, client):
        first = await ask(client, [{"role": "user", "content": [picture()]}])
        bodies = await each_answers(server, client, f"{PATH}/{first['id']}", 200)
        assert {httpx.Response(200, content=body).json()["id"] for body in bodies} == {first["id"]}
        nexts = await both_are_asked(server, client, "And?", previous_response_id=first["id"])
        lone = await ask(client, "And?")
        for one in nexts:
            assert one["usage"]["input_tokens_details"]["image_tokens"] > 0, "the picture came along"
            assert one["usage"]["input_tokens"] > lone["usage"]["input_tokens"]
        items = (await client.get(f"{PATH}/{nexts[0]['id']}/input_items")).json()["data"]
        assert items[0]["content"] == [{"type": "input_text", "text": "And?"}]
        assert (await client.delete(f"{PATH}/{first['id']}")).json()["deleted"] is True
        await each_answers(server, client, f"{PATH}/{first['id']}", 404)
        gone = await client.post(PATH, json={"input": "And?", "previous_response_id": first["id"]})
        assert (gone.status_code, gone.json()["error"]["code"]) == (400, "previous_response_not_found")
        assert (await client.get(f"{PATH}/{nexts[0]['id']}")).status_code == 200, "it holds what came before"


async def test_what_a_killed_process_had_stored_stays(tiny_words: tuple[str, ...]) -> None:
    async with answering(*tiny_words) as (server, client):
        made = await both_are_asked(server, client, "A number")
        for killed in fronts_of(server):
            os.kill(killed, signal.SIGKILL)
            await until(
                lambda killed=killed: killed not in fronts_of(server) and len(fronts_of(server)) == 2,
                "the process was not started again",
            )
        await until(lambda: httpx.get(f"{server.url}/health").status_code == 200, "it is not back")
        found = await asyncio.gather(*(client.get(f"{PATH}/{one['id']}") for one in made))
        assert [reply.json() for reply in found] == made
        assert "sequences are lost" in "".join(server.lines)


async def test_the_room_and_the_owners_are_those_of_one_server(tiny_words: tuple[str, ...]) -> None:
    words = ("server.max_stored_bytes=8000", "server.api_keys=[one,two]")
    async with answering(*tiny_words, *words) as (server, client):
        mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
        client.headers.update(mine)
        first = await ask(client, "One")
        paths = [f"{PATH}/{first['id']}"] * 6
        replies = await asyncio.gather(*(client.get(path, headers=theirs) for path in paths))
        assert {reply.status_code for reply in replies} == {404}
        replies = await asyncio.gather(*(client.get(path) for path in paths))
        assert {reply.status_code for reply in replies} == {200}
        await asyncio.gather(*(ask(client, f"Number {number} " + "x" * 300) for number in range(12)))
        assert (await client.get(paths[0])).status_code == 404, "the longest unused is forgotten"
        assert asked_of(server, "POST", status=200) == {"0", "1"}
