"""One front as its parent holds it: the process, its channel, and the way connections take to it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deployer.serve.fronts.channel import Channel
from deployer.serve.fronts.handover import hand_over
from deployer.serve.fronts.messages import FromFront, ToFront, decode_from_front, encode
from deployer.serve.fronts.shared_figures import FOLDER_VARIABLE
from engines.ipc.last_words import manner_of_death

FRONT_COMMAND = (sys.executable, "-m", "deployer.serve.fronts.front")


class FrontChild:
    """A running front."""

    def __init__(self, process: asyncio.subprocess.Process, connections: socket.socket) -> None:
        self._process = process
        self._connections = connections
        self._channel: Channel | None = None
        self.exit = asyncio.ensure_future(process.wait())
        self.is_listening = False
        self.is_answering = False
        self.fault: str | None = None  # what it said before its end
        self.num_handed = 0  # connections

    @classmethod
    async def spawn(
        cls,
        folder: Path,
        *,
        take: Callable[["FrontChild", FromFront], None],
        command: Sequence[str] = FRONT_COMMAND,
    ) -> "FrontChild":
        """Start `command CHANNEL CONNECTIONS`; `take` gets what it says.

        `folder`: of the counters that all fronts share.
        """
        ours, theirs = socket.socketpair()
        given, taken = socket.socketpair()
        with theirs, taken:
            # A session of its own: Ctrl-C reaches the parent alone, which tells all fronts to drain.
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                str(taken.fileno()),
                pass_fds=(theirs.fileno(), taken.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr,
                env={**os.environ, FOLDER_VARIABLE: str(folder)},
                start_new_session=True,
            )
        given.setblocking(False)
        child = cls(process, given)
        child._channel = await Channel.over(
            ours, on_frame=lambda frame: take(child, decode_from_front(frame)), on_end=lambda: None
        )
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def tell(self, message: ToFront) -> None:
        """Send a message; it is lost where the process is dead."""
        self.send(encode(message))

    def send(self, frame: bytes) -> None:
        """Send a message that is packed already."""
        assert self._channel is not None, "a front that was spawned has its channel"
        self._channel.send(frame)

    def hand_over(self, connection: socket.socket) -> bool:
        """Give it a connection; False: it takes none now."""
        if self.exit.done() or not hand_over(connection, self._connections):
            return False
        self.num_handed += 1
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where it has ended."""
        if not self.exit.done():
            with contextlib.suppress(ProcessLookupError):  # it ended between the two lines
                self._process.send_signal(number)

    def close(self) -> None:
        """Give back what belonged to a process that has ended."""
        self._connections.close()
        if self._channel is not None:
            self._channel.close()

    def death(self) -> str:
        """Return how a process ended."""
        return manner_of_death(self.exit.result()) + (f": {self.fault}" if self.fault else "")
