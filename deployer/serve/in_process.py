"""Asks an ASGI application in this process, as a connection would.

So what came another way (gRPC: `kserve/`, Ray: `deployer/ray_serve/`) passes the layers of an HTTP request
(log, keys, admission, cancellation) and its checks.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message

RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The head of an answer, and its body as it comes."""

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    chunks: AsyncIterator[bytes]

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers as text."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers}

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
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: RawHeaders,
    body: bytes = b"",
    query: bytes = b"",
    client: tuple[str, int] | None = None,
) -> AsyncGenerator[Answer, None]:
    """Send a request; leaving before the end of the answer is what a closed connection is.

    `headers`: names are lower case. Raises ConnectionError where the application ends without a word.
    """
    # Unbounded: an answer is at most a session long, and an HTTP one waits in the socket no less.
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    bodies = iter((body,))

    async def receive() -> Message:
        whole = next(bodies, None)
        if whole is not None:
            return {"type": "http.request", "body": whole, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.put_nowait(message)

    async def run() -> None:
        try:
            await app(_scope(method, path, headers, query=query, client=client), receive, send)
        finally:
            sent.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        head = await sent.get()
        if head is None:  # it ended without a word: its failure is raised below
            raise ConnectionError("the application gave no answer")
        pairs = tuple((bytes(name), bytes(value)) for name, value in head["headers"])
        yield Answer(status=head["status"], raw_headers=pairs, chunks=_chunks(sent))
    finally:
        gone.set()
        await running


async def _chunks(sent: "asyncio.Queue[Message | None]") -> AsyncIterator[bytes]:
    while (message := await sent.get()) is not None:
        if message.get("body"):
            yield bytes(message["body"])


def _scope(
    method: str, path: str, headers: RawHeaders, *, query: bytes, client: tuple[str, int] | None
) -> dict[str, object]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": client,
        "server": None,
    }
