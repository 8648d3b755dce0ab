"""One process of `pixel_worker.py`, and the connection to it."""

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

import msgspec

from deployer.prompt.pixel_job import PixelJob, PixelReply, PixelSetup

EXIT_S = 2.0


class WorkerDiedError(Exception):
    """The process at the other end is gone."""


class WorkerLateError(Exception):
    """A job took longer than it may."""


class PixelWorker:
    """One process and the connection to it; used by one thread at a time."""

    def __init__(self, setup: PixelSetup) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "deployer.prompt.pixel_worker", str(theirs.fileno())]
            self.process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=_environment()
            )
        self._connection = Connection(ours.detach())
        self._connection.send(setup)

    def ask(self, job: PixelJob, path: str, *, limit_s: float | None) -> PixelReply:
        """Wait for the answer to a job, whose arrays are in `<path>-0` and so on; None: without an end.

        Raises WorkerDiedError and WorkerLateError; close it then.
        """
        try:
            self._connection.send((job, path))
            if not self._connection.poll(limit_s):
                self.process.kill()  # its connection may close unseen
                raise WorkerLateError
            return msgspec.msgpack.decode(self._connection.recv_bytes(), type=PixelReply)
        except (EOFError, OSError) as error:
            raise WorkerDiedError from error

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _environment() -> dict[str, str]:
    """Return an environment in which no device can be opened."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
