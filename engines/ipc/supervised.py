"""An engine process that is kept alive: started, listened to, started again after a death. Torch-free.

One task supervises: it spawns a process (`engines/ipc/child.py`), reads all it says, hands replies to a sink,
and on a death or on silence fails every waiting sequence and spawns the next. Who submits is not its concern:
`engines/ipc/client.py` does for this process, `deployer/serve/fronts/` for several.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from engines.engine import EngineState
from engines.errors import EngineDeadError, EngineError
from engines.ipc.child import EngineChild
from engines.ipc.liveness import frames_of
from engines.ipc.standing import Standing
from engines.ipc.until_ready import until_ready
from engines.messages import Delta, Done, Failed, FromEngine, Ready, Reply, Start, ToEngine
from engines.stats import Stats

ENGINE_COMMAND = (sys.executable, "-m", "engines.ipc.process")
STOP_GRACE_S = 5.0

logger = logging.getLogger(__name__)


class ReplySink(Protocol):
    """Takes what an engine answers."""

    def put_all(self, replies: Sequence[Reply]) -> None:
        """Hand the replies of one frame, at least one, to whom they belong."""
        ...

    def fail_all(self, code: str, why: str) -> None:
        """End every sequence that has not ended with a `Failed`."""
        ...


class SupervisedEngine:
    """An engine in a process of its own that comes back when it dies."""

    def __init__(
        self,
        start: Start,
        *,
        start_timeout_s: float,
        max_restarts: int,
        sink: ReplySink,
        on_change: Callable[[], None] = lambda: None,
        command: Sequence[str] = ENGINE_COMMAND,
    ) -> None:
        """`on_change` is called after a change of what it says of itself, its figures included."""
        self._start = start
        self._start_timeout_s = start_timeout_s
        self._standing = Standing(max_restarts=max_restarts, on_change=on_change)
        self._command = command
        self._sink = sink
        self._on_change = on_change
        self._ready: Ready | None = None
        self._stats: Stats | None = None
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
    def pid(self) -> int | None:
        """Process id of the engine; None while there is none."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start the engine and wait until it serves; raises what kept it from starting."""
        try:
            child = await self._spawn()
        except BaseException:
            self._standing.give_up()
            raise
        self._supervisor = asyncio.create_task(self._supervise(child))

    def tell(self, message: ToEngine) -> bool:
        """Send a message to an engine that is ready; False: it is not, and nothing was sent."""
        if self._child is None or self.state != "ready":
            return False
        self._child.send(message)
        return True

    async def close(self, *, at_once: bool = False) -> None:
        """Stop the engine, which `at_once` leaves no time; sequences that still run end with Failed."""
        self._standing.fault = self.fault or "the engine was closed"
        self._standing.give_up()
        self._sink.fail_all("shutting_down", "the engine was closed before the answer was complete")
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,))
            self._supervisor = None
        if self._child is not None:
            child, self._child = self._child, None
            await (child.kill() if at_once else child.stop(STOP_GRACE_S))

    def refusal(self, request_id: str) -> Failed:
        """Return what a sequence is told that comes while nothing is taken."""
        why = f"the engine is {self.state}: {self.fault or 'wait'}"
        return Failed(request_id=request_id, code="engine_unavailable", message=why)

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

    async def _supervise(self, child: EngineChild) -> None:
        """Keep an engine; a fault of ours ends all that wait for it, since nobody listens to it any more."""
        try:
            await self._keep(child)
        except Exception as error:
            logger.exception("the engine is given up")
            self._standing.fault = f"the server no longer listens to the engine: {error}"
            self._standing.give_up()
            self._sink.fail_all("engine_error", self._standing.fault)

    async def _keep(self, child: EngineChild | None) -> None:
        """Route replies until the engine dies, restart it, and give up after too many deaths."""
        while True:
            try:
                if child is None:
                    child = await self._spawn()
                    logger.warning("the engine is back as process %d", child.pid)
                async with aclosing(frames_of(child, self._start.options)) as frames:
                    async for messages in frames:
                        self._take(messages)
            except EngineError as error:
                self._standing.fault = str(error)
            logger.error("engine lost: %s", self.fault)
            self._stats = None
            wait_s = self._standing.lose()
            self._sink.fail_all("engine_error", str(self.fault))
            if child is not None:
                await child.kill()
                self._child = child = None
            if wait_s is None:
                logger.error("engine dead: engine.max_restarts are used up; restart the server")
                return
            await asyncio.sleep(wait_s)

    def _take(self, messages: Sequence[FromEngine]) -> None:
        replies: list[Reply] = []
        for message in messages:
            match message:
                case Delta() | Done() | Failed():
                    replies.append(message)
                case Stats():
                    self._stats = message
                    self._on_change()
                case _:
                    raise EngineDeadError(f"the engine sent {type(message).__name__} while it was serving")
        if replies:
            self._sink.put_all(replies)
