"""One request through an ASGI application in this process: its head, then its body as it comes."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import ASGIApp, Message, Scope

from deployer.ray_serve.messages import Asked, Head


async def call(app: ASGIApp, asked: Asked, *, replica: str) -> AsyncGenerator[Head | bytes, None]:
    """Yield the head and the pieces of the answer; the application hears of it when nobody listens."""
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    bodies = iter((asked.body,))

    async def receive() -> Message:
        body = next(bodies, None)
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await app(_scope(asked), receive, sent.put)
        finally:
            sent.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (message := await sent.get()) is not None:
            if message["type"] == "http.response.start":
                headers = tuple((bytes(name), bytes(value)) for name, value in message["headers"])
                yield Head(status=message["status"], headers=headers, replica=replica)
            elif message.get("body"):
                yield bytes(message["body"])
        await running
    finally:
        gone.set()
        await asyncio.wait((running,))


def _scope(asked: Asked) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "root_path": "",
        "query_string": asked.query,
        "headers": list(asked.headers),
        "client": asked.client,
        "server": None,
    }
