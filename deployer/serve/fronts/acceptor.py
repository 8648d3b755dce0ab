"""The listening socket of a server of several processes: who connects is given to the front with fewest."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

BACKLOG = 2048  # connections that wait while nobody takes any
AT_ONCE = 64  # accepted before the loop does something else
PAUSE_S = 0.05

log = logging.getLogger("deployer.serve")


class Taker(Protocol):
    """A front that takes connections."""

    def hand_over(self, connection: socket.socket) -> bool:
        """Take a connection; False: none now."""
        ...


class Acceptor:
    """Accepts while it is open; what no front takes yet waits its turn."""

    def __init__(self, listener: socket.socket, takers: Callable[[], Sequence[Taker]]) -> None:
        """`takers`: the fronts that may have the next connection, best first."""
        self._listener = listener
        self._takers = takers
        self._waiting: list[socket.socket] = []
        self._is_reading = False
        self._closed = False

    def open(self) -> None:
        """Accept from now on."""
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._pause()
        self._closed = True
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()

    def _resume(self) -> None:
        if self._closed:
            return
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            self._give(connection)
        if self._waiting:
            asyncio.get_running_loop().call_later(PAUSE_S, self._resume)
        elif not self._is_reading:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)
            self._is_reading = True

    def _pause(self) -> None:
        if self._is_reading:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._is_reading = False

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if not self._takers():
                break
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:  # who connected has left again
                continue
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("a connection cannot be taken: %s", error)
                break
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._give(connection)
            if self._waiting:
                break
        else:
            return
        self._pause()
        asyncio.get_running_loop().call_later(PAUSE_S, self._resume)

    def _give(self, connection: socket.socket) -> None:
        if any(taker.hand_over(connection) for taker in self._takers()):
            connection.close()
        else:
            self._waiting.append(connection)
