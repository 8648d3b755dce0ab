"""One request through the application of a replica: its head, then its body as it comes."""

from collections.abc import AsyncGenerator

from starlette.types import ASGIApp

from deployer.ray_serve.messages import Asked, Head
from deployer.serve.in_process import ask


async def call(app: ASGIApp, asked: Asked, *, replica: str) -> AsyncGenerator[Head | bytes, None]:
    """Yield the head and the pieces of the answer; the application hears of it when nobody listens."""
    request = ask(
        app,
        asked.method,
        asked.path,
        headers=asked.headers,
        body=asked.body,
        query=asked.query,
        client=asked.client,
    )
    async with request as answer:
        yield Head(status=answer.status, headers=answer.raw_headers, replica=replica)
        async for piece in answer.chunks:
            yield piece
