"""The other ranks of a tensor-parallel group, as rank 0 holds them. Torch-free.

    rank 0 ──▶ follower    Start, Go, then a Turn before each of its own steps, Stop
    follower ──▶ rank 0    Loading(phase="meet") once its weights are there, or StartFailed

Every rank runs the same loop over the same messages: what a step holds follows from the messages and the
sampled tokens, and collectives give every rank the same bits, so no plan travels and nobody waits for one.
Rank 0 alone hears and answers the front end. A follower that ends takes rank 0 with it: the front end sees
one engine die and starts the next.
"""

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq

from engines.errors import EngineError, error_of
from engines.ipc.last_words import SCHEME, manner_of_death
from engines.ipc.owned_folder import OwnedFolder
from engines.ipc.wire import decode_from_engine, encode_to_engine
from engines.messages import (
    Go,
    ImageInput,
    Loading,
    Order,
    PixelRef,
    Start,
    StartFailed,
    Stop,
    Submit,
    ToEngine,
    Turn,
)

if TYPE_CHECKING:
    from engines.backends import Backend

MEET = "meet"  # the phase in which a follower waits for Go
POLL_MS = 100
LEAVE_S = 3.0  # how long followers may take to leave before they are killed

logger = logging.getLogger(__name__)


class Followers:
    """Ranks 1 to tp - 1, each a process that runs this very command on a socket of its own."""

    def __init__(self, start: Start, *, leave_word: Callable[[str], None]) -> None:
        """`leave_word` is told which follower ended, and how, right before this process ends with it.

        Raises EngineError where a follower cannot be spawned; those before it are ended.
        """
        self._leave_word = leave_word
        self._is_closing = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[zmq.Socket[bytes]] = []
        self._context = zmq.Context()
        self._held = contextlib.ExitStack()  # what is freed at the end, the last first
        self._held.callback(self._context.term)
        try:
            folder = OwnedFolder(Path(tempfile.gettempdir()), "vlm-ranks-")
            self._held.callback(folder.close)
            self._folder = folder.path
            for rank in range(1, start.options.tp):
                self._spawn(rank)
        except (OSError, zmq.ZMQError) as error:
            self._held.close()
            raise EngineError(
                f"rank {len(self._processes) + 1} of engine.tp={start.options.tp} cannot be started "
                f"({error}): every rank is a process with a socket below TMPDIR; free memory or room there, "
                "raise the limit of processes (ulimit -u), or lower engine.tp"
            ) from error
        self._send_all(start)

    def meet(self, backend: "Backend") -> None:
        """Join once every follower has its weights; raises the error of one that has not."""
        for rank in range(1, backend.group.size):
            self._await_weights(rank)
        self._send_all(Go())
        threading.Thread(target=self._watch, daemon=True).start()
        backend.group.join(self._rendezvous, backend.device)

    def turn(self, messages: Sequence[Order], digest: int) -> None:
        """Have the followers take these messages and run a step, as rank 0 is about to."""
        for rank in range(1, len(self._processes) + 1):
            own = tuple(_with_own_pixels(message, rank) for message in messages)
            self._send(rank, Turn(messages=own, digest=digest))

    def close(self) -> None:
        """Ask the followers to leave, and end those that do not."""
        self._is_closing = True
        self._send_all(Stop())
        deadline = time.monotonic() + LEAVE_S
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
        self._held.close()

    @property
    def _rendezvous(self) -> Path:
        return self._folder / "rendezvous"

    def _spawn(self, rank: int) -> None:
        endpoint = f"{SCHEME}{self._folder}/rank{rank}"
        socket = self._context.socket(zmq.PAIR)
        self._held.callback(socket.close)
        socket.set_hwm(0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)
        self._sockets.append(socket)
        own_command = sys.orig_argv[: sys.orig_argv.index("--connect")]
        where = ["--connect", endpoint, "--parent", str(os.getpid())]
        whose = ["--rank", str(rank), "--rendezvous", str(self._rendezvous)]
        process = subprocess.Popen([*own_command, *where, *whose])
        self._held.callback(_end, process)
        self._processes.append(process)

    def _send_all(self, message: ToEngine) -> None:
        for rank in range(1, len(self._processes) + 1):
            self._send(rank, message)

    def _send(self, rank: int, message: ToEngine) -> None:
        """Send once the rank has connected; nothing is sent to a dead one, whose death is seen elsewhere."""
        socket, process = self._sockets[rank - 1], self._processes[rank - 1]
        while not socket.poll(POLL_MS, zmq.POLLOUT):
            if process.poll() is not None:
                return
        socket.send(encode_to_engine(message))

    def _await_weights(self, rank: int) -> None:
        socket, process = self._sockets[rank - 1], self._processes[rank - 1]
        while True:
            if not socket.poll(POLL_MS):
                if process.poll() is not None:
                    raise EngineError(
                        f"rank {rank} {manner_of_death(process.returncode)} while it was loading"
                    )
                continue
            for message in decode_from_engine(socket.recv()):
                match message:
                    case StartFailed():
                        raise error_of(message.kind, f"rank {rank}: {message.message}")
                    case Loading(phase=phase) if phase == MEET:
                        return

    def fault(self, *, within_s: float) -> str | None:
        """Return which follower ended and how; None where none has within this time."""
        deadline = time.monotonic() + within_s
        while True:
            for rank, process in enumerate(self._processes, start=1):
                if process.poll() is not None:
                    return f"rank {rank} (process {process.pid}) {manner_of_death(process.returncode)}"
            if not self._processes or time.monotonic() >= deadline:
                return None
            time.sleep(min(POLL_MS / 1000, within_s))

    def _watch(self) -> None:
        """End this process at once when a follower ends: its step would wait for the follower for ever."""
        while not self._is_closing:
            fault = self.fault(within_s=0.0)
            if fault is not None and not self._is_closing:
                logger.error("%s: the engine ends with it", fault)
                self._leave_word(fault)
                os._exit(1)
            time.sleep(POLL_MS / 1000)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # does nothing to one that has ended
    process.wait()


def _with_own_pixels(message: Order, rank: int) -> Order:
    """Return the message with pixel files that this rank may unlink: other names of the same bytes."""
    if not isinstance(message, Submit) or not message.images:
        return message
    return msgspec.structs.replace(
        message, images=tuple(_with_own_refs(image, rank) for image in message.images)
    )


def _with_own_refs(image: ImageInput, rank: int) -> ImageInput:
    return msgspec.structs.replace(image, pixels=tuple(_own_ref(ref, rank) for ref in image.pixels))


def _own_ref(ref: PixelRef, rank: int) -> PixelRef:
    path = Path(f"{ref.path}.rank{rank}")
    try:
        path.hardlink_to(ref.path)
    except FileNotFoundError:
        return ref  # gone already: every rank refuses the request alike
    return PixelRef(path=str(path), shape=ref.shape)
