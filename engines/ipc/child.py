"""One engine process as its parent holds it: the process, its socket, and the news from both. Torch-free.

Each incarnation has a socket of its own in a folder that only this user can enter, so nothing of a dead
engine can reach its successor. `engines/ipc/client.py` decides what a death means.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from engines.errors import EngineDeadError, EngineError
from engines.ipc.last_words import SCHEME, last_words, manner_of_death
from engines.ipc.owned_folder import OwnedFolder
from engines.ipc.wire import decode_from_engine, encode_to_engine
from engines.messages import FromEngine, Stop, ToEngine

LAST_WORDS_S = 0.2  # after an exit: how long messages that were sent before it may still arrive


class EngineChild:
    """A running engine process."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        context: zmq.asyncio.Context,
        socket: zmq.asyncio.Socket,
        folder: OwnedFolder,
        endpoint: str,
    ) -> None:
        self._process = process
        self._context = context
        self._socket = socket
        self._folder = folder
        self._endpoint = endpoint
        self._exit = asyncio.ensure_future(process.wait())
        self._frame: asyncio.Future[bytes] | None = None

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> "EngineChild":
        """Start `command --connect <endpoint> --parent <pid>` with a fresh socket; raises EngineError."""
        try:
            with contextlib.ExitStack() as undo:
                folder = OwnedFolder(Path(tempfile.gettempdir()), "vlm-engine-")
                undo.callback(folder.close)
                endpoint = _endpoint(folder.path / "socket")
                context = zmq.asyncio.Context()
                undo.callback(context.term)
                socket = context.socket(zmq.PAIR)
                undo.callback(socket.close)
                socket.set_hwm(0)
                socket.setsockopt(zmq.LINGER, 0)
                socket.bind(endpoint)
                # A session of its own: Ctrl-C reaches the front end alone, which drains and then stops the
                # engine.
                process = await asyncio.create_subprocess_exec(
                    *command, "--connect", endpoint, "--parent", str(os.getpid()), start_new_session=True
                )
                undo.pop_all()
        except (OSError, zmq.ZMQError) as error:
            raise EngineError(
                f"the engine process cannot be started ({error}): it needs a socket below TMPDIR; free "
                "memory or room there, or raise the limit of processes (ulimit -u)"
            ) from error
        return cls(process, context, socket, folder, endpoint)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_stopped(self) -> bool:
        """Whether a signal holds it up (SIGSTOP, Ctrl-Z); False where the system does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:  # it ended, or there is no /proc
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    def send(self, message: ToEngine) -> None:
        """Queue a message; it is lost where the process is dead."""
        self._socket.send(encode_to_engine(message))

    async def receive(self, timeout_s: float) -> list[FromEngine]:
        """Return the next messages.

        Raises EngineDeadError once the process has ended and said all or talks nonsense, TimeoutError after
        `timeout_s` of silence.
        """
        if self._frame is None:
            self._frame = asyncio.ensure_future(self._socket.recv())
        frame = self._frame
        await asyncio.wait((frame, self._exit), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not frame.done() and self._exit.done():
            await asyncio.wait((frame,), timeout=LAST_WORDS_S)
        if frame.done():
            self._frame = None
            try:
                return decode_from_engine(frame.result())
            except msgspec.DecodeError as error:
                raise EngineDeadError(
                    f"the engine process {self.pid} sent no message of ours: {error}"
                ) from error
        if self._exit.done():
            raise EngineDeadError(f"the engine process {self.pid} {self._death(self._exit.result())}")
        raise TimeoutError

    async def stop(self, grace_s: float) -> None:
        """Ask the process to leave, kill it after `grace_s`, and free the socket."""
        self.send(Stop())
        await asyncio.wait((self._exit,), timeout=grace_s)
        await self.kill()

    async def kill(self) -> None:
        """End the process at once and free the socket."""
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):  # it ended between the two lines
                self._process.kill()
        await self._exit
        if self._frame is not None:
            self._frame.cancel()
        self._socket.close()
        self._context.term()
        self._folder.close()

    def _death(self, code: int) -> str:
        why = last_words(self._endpoint)
        return manner_of_death(code) + (f": {why}" if why else "")


def _endpoint(path: Path) -> str:
    """Return the address of a socket in the file system; raises EngineError for a path that none can have."""
    num_bytes = len(os.fsencode(path))
    if num_bytes > zmq.IPC_PATH_MAX_LEN:
        raise EngineError(
            f"the engine's socket `{path}` has {num_bytes} bytes: a socket's path has at most "
            f"{zmq.IPC_PATH_MAX_LEN} bytes; set TMPDIR to a shorter folder"
        )
    return f"{SCHEME}{path}"
