"""Bodies on their way in: each is whole in time before its request takes a place.

A client that sends half a body holds a connection and the bytes that came, never a place of
`server.max_requests`.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from deployer.config.schema import ServerConfig
from deployer.serve.api_errors import ApiError, ApiFault


class Arrivals:
    """Reads bodies ahead of admission. Invariant: 0 <= num_bytes <= max_bytes."""

    def __init__(self, server: ServerConfig) -> None:
        self.limit_s = server.body_timeout_s
        self.max_body_bytes = server.max_body_bytes
        # An even share of what the server allows, and room for one body.
        allowed = server.max_requests * server.max_body_bytes
        self.max_bytes = max(allowed // server.processes, server.max_body_bytes)
        self.num_bytes = 0  # of all bodies that are not whole

    async def whole(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that has the whole body at hand, in one message.

        A body above `server.max_body_bytes`, and one whose client went away, is left to the route, which
        refuses it.

        Raises ApiError 408 where the body is not whole in time, 429 where all together are too many bytes.
        """
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            return receive
        data = bytearray()
        try:
            async with asyncio.timeout(self.limit_s):
                is_whole = await self._read(receive, data)
        except TimeoutError as error:
            raise ApiError(self._late(len(data), declared)) from error
        finally:
            self.num_bytes -= len(data)
        return _replayed(bytes(data), receive, is_whole=is_whole)

    async def _read(self, receive: Receive, data: bytearray) -> bool:
        """Fill `data`; False: the client went away, or the body is too large."""
        while len(data) <= self.max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            chunk = message.get("body", b"")
            if self.num_bytes + len(chunk) > self.max_bytes:
                raise ApiError(self._crowded())
            data += chunk
            self.num_bytes += len(chunk)
            if not message.get("more_body", False):
                return True
        return False

    def _late(self, num_bytes: int, declared: str) -> ApiFault:
        came = f"{num_bytes} of {declared} bytes" if declared else f"{num_bytes} bytes"
        return ApiFault(
            status=408,
            message=f"the body was not whole in time, {came} came: `server.body_timeout_s` allows "
            f"{self.limit_s:g} s; send it again without pauses, or smaller images where the line is slow",
            code="body_timeout",
            headers={"connection": "close"},
        )

    def _crowded(self) -> ApiFault:
        return ApiFault(
            status=429,
            message=f"{self.num_bytes} bytes of bodies are on their way in, `server.max_requests` times "
            f"`server.max_body_bytes` allow {self.max_bytes}: come back after the time in the "
            "Retry-After header",
            code="queue_full",
            headers={"retry-after": "1", "connection": "close"},
        )


def _replayed(data: bytes, receive: Receive, *, is_whole: bool) -> Receive:
    first: Message | None = {"type": "http.request", "body": data, "more_body": not is_whole}

    async def replay() -> Message:
        nonlocal first
        if first is None:
            return await receive()
        message, first = first, None
        return message

    return replay
