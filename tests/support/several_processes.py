"""A server of several processes as its clients see it, and its processes as the system does."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx
from live_server import LiveServer

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Go on"}], "max_tokens": 4, "ignore_eos": True,
}  # fmt: skip
LONG: dict[str, Any] = {**CHAT, "max_tokens": 1500, "stream": True}
PATH = "/v1/chat/completions"
SEVERAL = ("server.processes=2",)


def client_of(server: LiveServer) -> httpx.AsyncClient:
    """Return a client that opens a connection for each request at once, as many as it takes."""
    return httpx.AsyncClient(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=64))


def fronts_of(server: LiveServer) -> list[int]:
    """Return the processes that answer for a server, where there are several."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended while we looked
                continue
            if b"deployer.serve.fronts.front" in line and parent == server.process.pid:
                found.append(int(folder.name))
    return found


def answered_by(server: LiveServer) -> set[str]:
    """Return the processes whose lines say that they answered a chat."""
    line = re.compile(rf"process=(\d+) request=\S+ method=POST path={PATH} status=200 ")
    return {found[1] for text in list(server.lines) for found in line.finditer(text)}


def counted(server: LiveServer, code: str) -> float:
    return server.figure(f'deployer_requests_total{{code="{code}",path="{PATH}"}}') or 0.0


async def until(condition: Any, what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def reading(client: httpx.AsyncClient, body: dict[str, Any] = LONG) -> str:
    """Return a stream's text up to its end, however it ends."""
    text = ""
    try:
        async with client.stream("POST", PATH, json=body) as reply:
            async for piece in reply.aiter_text():
                text += piece
    except httpx.HTTPError as error:
        return f"{text} lost: {type(error).__name__}"
    return text
