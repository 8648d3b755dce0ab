"""Asks an ASGI application in this process, as a connection would.

So a gRPC request passes the layers of an HTTP one (log, keys, admission, cancellation) and its checks.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def whole(self) -> bytes:
        """Return the body."""
        return b"".join([chunk async for chunk in self.chunks])

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the data of each server-sent event."""
        rest = b""
        async for chunk in self.chunks:
            *whole, rest = (rest + chunk).split(b"\n\n")
            for event in whole:
                yield event.removeprefix(b"data: ")


@asynccontextmanager
async def ask(
    app: ASGIApp, method: str, path: str, *, headers: Iterable[tuple[str, str]], body: bytes = b""
) -> AsyncGenerator[Answer, None]:
    """Send a request; leaving before the end of the answer is what a closed connection is."""
    # Unbounded: an answer is at most a session long, and an HTTP one waits in the socket no less.
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.put_nowait(message)

    async def run() -> None:
        try:
            await app(_scope(method, path, headers, len(body)), receive, send)
        finally:
            sent.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        head = await sent.get()
        if head is None:  # it ended without a word: its failure is raised below
            raise ConnectionError("the application gave no answer")
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in head["headers"]}
        yield Answer(status=head["status"], headers=fields, chunks=_chunks(sent))
    finally:
        gone.set()
        await running


async def _chunks(sent: "asyncio.Queue[Message | None]") -> AsyncIterator[bytes]:
    while (message := await sent.get()) is not None:
        yield message.get("body", b"")


def _scope(method: str, path: str, headers: Iterable[tuple[str, str]], num_bytes: int) -> dict[str, object]:
    plain = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            *plain,
            (b"content-type", b"application/json"),
            (b"content-length", str(num_bytes).encode()),
        ],
        "client": None,
        "server": None,
    }
