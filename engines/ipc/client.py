"""The front end's hold on an engine: start it, route replies, notice its death, restart it. Torch-free.

One task supervises: it spawns a process (`engines/ipc/child.py`), reads all it says, and on a death or on
silence fails every waiting sequence and spawns the next. `submit` only ever waits on its own queue, so it
is answered either way.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from engines.engine import EngineState
from engines.errors import EngineDeadError, EngineError
from engines.ipc.child import EngineChild
from engines.ipc.liveness import frames_of
from engines.ipc.pixel_files import PixelFiles
from engines.ipc.reply_streams import ReplyStreams
from engines.ipc.standing import Standing
from engines.ipc.until_ready import until_ready
from engines.messages import (
    Abort,
    Delta,
    Done,
    Failed,
    Flush,
    FromEngine,
    Ready,
    Reply,
    Start,
    Submit,
    Vocabulary,
)
from engines.options import EngineOptions
from engines.spec import ModelSpec
from engines.stats import Stats

ENGINE_COMMAND = (sys.executable, "-m", "engines.ipc.process")
STOP_GRACE_S = 5.0

logger = logging.getLogger(__name__)


class EngineClient:
    """An `Engine` that runs in a process of its own and comes back when it dies."""

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        options: EngineOptions,
        *,
        start_timeout_s: float,
        max_restarts: int,
        vocabulary: Vocabulary | None = None,
        command: Sequence[str] = ENGINE_COMMAND,
    ) -> None:
        self._start = Start(folder=str(folder), spec=spec, options=options, vocabulary=vocabulary)
        self._start_timeout_s = start_timeout_s
        self._standing = Standing(max_restarts=max_restarts)
        self._command = command
        self._pixels = PixelFiles()
        self._ready: Ready | None = None
        self._stats: Stats | None = None
        self._streams = ReplyStreams()
        self._child: EngineChild | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def state(self) -> EngineState:
        """Whether sequences are taken now."""
        return self._standing.state

    @property
    def state_s(self) -> float:
        """Seconds in this state."""
        return self._standing.state_s

    @property
    def back_in_s(self) -> float | None:
        """Seconds until a restarting engine should serve again; None where nobody knows."""
        return self._standing.back_in_s

    @property
    def phase(self) -> str | None:
        """What a start is busy with."""
        return self._standing.phase

    @property
    def fault(self) -> str | None:
        """Why the engine was last restarted or is dead."""
        return self._standing.fault

    @property
    def num_restarts(self) -> int:
        """Restarts since `start`."""
        return self._standing.num_restarts

    @property
    def ready(self) -> Ready | None:
        """What the engine got at its last start."""
        return self._ready

    @property
    def stats(self) -> Stats | None:
        """The last figures the engine sent; None while it is away."""
        return self._stats

    @property
    def pixels(self) -> PixelFiles:
        """Where the pixels of a request are put before it is submitted."""
        return self._pixels

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None while there is none."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start the engine and wait until it serves; raises what kept it from starting."""
        try:
            child = await self._spawn()
        except BaseException:
            self._pixels.close()
            self._standing.give_up()
            raise
        self._supervisor = asyncio.create_task(self._supervise(child))

    async def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        """Yield the replies of one sequence; see `Engine.submit`."""
        name = request.request_id
        try:
            refusal = self._refusal(name)
            if refusal is not None or self._child is None:
                yield refusal or _failed(name, "engine_unavailable", "the engine is not running")
                return
            queue = self._streams.open(name)
            try:
                self._child.send(request)
                reply: Reply | None = None
                while not isinstance(reply, Done | Failed):
                    reply = await queue.get()
                    yield reply
            finally:
                if self._streams.leave(name, queue):
                    self.abort(name)
        finally:
            for image in request.images:
                for ref in image.pixels:
                    self._pixels.remove(ref)

    def abort(self, request_id: str) -> None:
        """Ask for the end of a sequence; its stream ends with `Done(finish_reason="abort")`."""
        if self._child is not None and self.state == "ready":
            self._child.send(Abort(request_id=request_id))

    def flush(self) -> None:
        """Ask the engine to forget its prefix cache; one that is starting has nothing to forget."""
        if self._child is not None and self.state == "ready":
            self._child.send(Flush())

    async def close(self) -> None:
        """Stop the engine; streams still open end with Failed."""
        self._standing.give_up()
        self._standing.fault = self.fault or "the engine was closed"
        self._streams.fail_all("shutting_down", "the engine was closed before the answer was complete")
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,))
            self._supervisor = None
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop(STOP_GRACE_S)
        self._pixels.close()

    def _refusal(self, request_id: str) -> Failed | None:
        if request_id in self._streams:
            return _failed(request_id, "invalid_request", f"request id `{request_id}` is in use")
        if self.state == "ready":
            return None
        return _failed(
            request_id, "engine_unavailable", f"the engine is {self.state}: {self.fault or 'wait'}"
        )

    async def _spawn(self) -> EngineChild:
        """Start one process and see it through to Ready; it is gone again where this raises."""
        self._standing.begin()
        child = await EngineChild.spawn(self._command)
        try:
            child.send(self._start)
            self._ready = await until_ready(
                child, timeout_s=self._start_timeout_s, on_phase=self._standing.enter_phase
            )
        except BaseException:
            await child.kill()
            raise
        self._child = child
        self._standing.serve()
        return child

    async def _supervise(self, child: EngineChild | None) -> None:
        """Route replies until the engine dies, restart it, and give up after too many deaths."""
        while True:
            try:
                if child is None:
                    child = await self._spawn()
                    logger.warning("the engine is back as process %d", child.pid)
                async with aclosing(frames_of(child, self._start.options)) as frames:
                    async for messages in frames:
                        for message in messages:
                            self._take(message)
            except EngineError as error:
                self._standing.fault = str(error)
            logger.error("engine lost: %s", self.fault)
            wait_s = self._standing.lose()
            self._stats = None
            self._streams.fail_all("engine_error", str(self.fault))
            if child is not None:
                await child.kill()
                self._child = child = None
            if wait_s is None:
                logger.error("engine dead: engine.max_restarts are used up; restart the server")
                return
            await asyncio.sleep(wait_s)

    def _take(self, message: FromEngine) -> None:
        match message:
            case Delta() | Done() | Failed():
                self._streams.put(message)
            case Stats():
                self._stats = message
            case _:
                raise EngineDeadError(f"the engine sent {type(message).__name__} while it was serving")


def _failed(request_id: str, code: str, message: str) -> Failed:
    return Failed(request_id=request_id, code=code, message=message)
