"""Frames over a socket pair: four bytes of length, then the frame. Ends when either side is gone."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

LENGTH_BYTES = 4


class Channel(asyncio.Protocol):
    """One end, on the running loop. Frames come in order, as calls of `on_frame`."""

    def __init__(self, *, on_frame: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._arrived = bytearray()

    @classmethod
    async def over(
        cls, end: socket.socket, *, on_frame: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> "Channel":
        """Return the channel of one end of a pair, which it owns from now on."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(on_frame=on_frame, on_end=on_end), sock=end)
        return channel

    def send(self, frame: bytes) -> None:
        """Queue a frame; it is lost where the other side is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(frame).to_bytes(LENGTH_BYTES, "little") + frame)

    def close(self) -> None:
        """End the channel after what is queued."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio

    def data_received(self, data: bytes) -> None:
        arrived, start = self._arrived, 0
        arrived += data
        while len(arrived) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + int.from_bytes(arrived[start : start + LENGTH_BYTES], "little")
            if len(arrived) < end:
                break
            self._on_frame(bytes(arrived[start + LENGTH_BYTES : end]))
            start = end
        del arrived[:start]

    def connection_lost(self, error: Exception | None) -> None:
        self._on_end()
