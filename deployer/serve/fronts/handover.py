"""Connections from the process that accepts them to the one that answers: each travels as an open file."""

import array
import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from deployer.serve.listen import HttpServer

FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)  # the front has not taken what it was given
GONE = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)

log = logging.getLogger("deployer.serve")


def hand_over(connection: socket.socket, end: socket.socket) -> bool:
    """Give a connection to the process at the other end of a pair; False: it takes none now."""
    file = array.array("i", [connection.fileno()])
    try:
        end.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, file)])
    except OSError as error:
        if error.errno in FULL or error.errno in GONE:
            return False
        raise
    return True


class HandedConnections:
    """The front's end: puts uvicorn's protocol on each connection that comes."""

    def __init__(self, http: HttpServer, end: socket.socket, *, on_closed: Callable[[], None]) -> None:
        """`http` has started; `on_closed` is called when a connection has ended."""
        self._http = http
        self._end = end
        self._on_closed = on_closed
        self._tasks: set[asyncio.Task[None]] = set()
        kind = http.config.http_protocol_class
        assert isinstance(kind, type), "a started server has its protocol"

        class Counted(kind):  # type: ignore[misc, valid-type]
            """The same, whose end is counted."""

            def connection_lost(self, error: Exception | None) -> None:
                super().connection_lost(error)
                on_closed()

        self._kind = Counted

    def open(self) -> None:
        """Take connections from now on."""
        self._end.setblocking(False)
        asyncio.get_running_loop().add_reader(self._end.fileno(), self._read)

    def close(self) -> None:
        """Take no more; those that are there stay."""
        asyncio.get_running_loop().remove_reader(self._end.fileno())
        self._end.close()

    def _read(self) -> None:
        while True:
            try:
                data, files, _, _ = socket.recv_fds(self._end, 1, 1)
            except BlockingIOError:
                return
            if not data:  # the parent is gone; its channel says so too
                asyncio.get_running_loop().remove_reader(self._end.fileno())
                return
            for file in files:
                task = asyncio.create_task(self._adopt(socket.socket(fileno=file)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        loop, http = asyncio.get_running_loop(), self._http

        def protocol() -> asyncio.Protocol:
            return self._kind(
                config=http.config, server_state=http.server_state, app_state=http.lifespan.state, _loop=loop
            )

        try:
            await loop.connect_accepted_socket(protocol, connection, ssl=http.config.ssl)
        except OSError as error:  # of TLS too: it is no fault of ours what a client says first
            log.debug("a connection ended before its first request: %s", error)
            connection.close()
            self._on_closed()
