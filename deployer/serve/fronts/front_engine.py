"""The engine as a front has it: another process holds it, and passes on what is said."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence

from deployer.serve.fronts.messages import EngineNow, FromFront
from engines.engine import EngineState
from engines.errors import EngineDeadError
from engines.ipc.pixel_files import PixelFiles
from engines.ipc.reply_streams import ReplyStreams
from engines.ipc.supervised import SupervisedEngine
from engines.messages import Abort, Failed, Flush, Ready, Reply, Submit
from engines.stats import Stats

NOTHING_KNOWN = EngineNow(
    state="starting", state_s=0.0, back_in_s=None, phase=None, fault=None, num_restarts=0, ready=None,
    stats=None,
)  # fmt: skip


class FrontEngine:
    """An `Engine` whose process is the child of our parent."""

    def __init__(self, tell: Callable[[FromFront], None], *, changed: Callable[[], None]) -> None:
        """`tell` sends to the parent; `changed` is called when it has told of another state."""
        self._tell = tell
        self._changed = changed
        self._now = NOTHING_KNOWN
        self._told_s = time.monotonic()
        self._closed = False
        self._streams = ReplyStreams()
        self._pixels = PixelFiles()

    @property
    def state(self) -> EngineState:
        """Whether sequences are taken now."""
        return "dead" if self._closed else self._now.state

    @property
    def state_s(self) -> float:
        """Seconds in this state."""
        return self._now.state_s + time.monotonic() - self._told_s

    @property
    def back_in_s(self) -> float | None:
        """Seconds until a restarting engine should serve again; None where nobody knows."""
        back_in_s = self._now.back_in_s
        return None if back_in_s is None else max(0.0, back_in_s - (time.monotonic() - self._told_s))

    @property
    def phase(self) -> str | None:
        """What a start is busy with."""
        return self._now.phase

    @property
    def fault(self) -> str | None:
        """Why the engine was last restarted or is dead."""
        return self._now.fault

    @property
    def num_restarts(self) -> int:
        """Restarts since the server's start."""
        return self._now.num_restarts

    @property
    def ready(self) -> Ready | None:
        """What the engine got at its last start."""
        return self._now.ready

    @property
    def stats(self) -> Stats | None:
        """The last figures the engine sent; None while it is away."""
        return self._now.stats

    @property
    def pixels(self) -> PixelFiles:
        """Where the pixels of a request are put before it is submitted."""
        return self._pixels

    async def start(self) -> None:
        """Raise EngineDeadError where the engine has not been ready yet; the parent starts it."""
        if self.ready is None:
            raise EngineDeadError(f"the engine is {self.state}: {self.fault}")

    def take(self, now: EngineNow) -> None:
        """Note what the engine says of itself now."""
        self._now, self._told_s = now, time.monotonic()
        self._changed()

    def put_all(self, replies: Sequence[Reply]) -> None:
        """Hand replies to those who wait for them."""
        self._streams.put_all(replies)

    def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        """Yield the replies of one sequence; see `Engine.submit`."""
        return self._streams.replies(request, send=self._send, abort=self.abort, pixels=self._pixels)

    def abort(self, request_id: str) -> None:
        """Ask for the end of a sequence; its stream ends with `Done(finish_reason="abort")`."""
        self._tell(Abort(request_id=request_id))

    def flush(self) -> None:
        """Ask the engine to forget its prefix cache."""
        self._tell(Flush())

    async def close(self, *, at_once: bool = False) -> None:
        """End all streams; the engine goes on for other fronts."""
        self._closed = True
        self._streams.fail_all("shutting_down", "the server was closed before the answer was complete")
        self._pixels.close()

    def _send(self, request: Submit) -> Failed | None:
        """Send a request; the parent answers it itself where the engine takes nothing by then."""
        if self.state != "ready":
            why = f"the engine is {self.state}: {self.fault or 'wait'}"
            return Failed(request_id=request.request_id, code="engine_unavailable", message=why)
        self._tell(request)
        return None


def now_of(engine: SupervisedEngine) -> EngineNow:
    """Return what a front is told of the engine that its parent has."""
    return EngineNow(
        state=engine.state,
        state_s=engine.state_s,
        back_in_s=engine.back_in_s,
        phase=engine.phase,
        fault=engine.fault,
        num_restarts=engine.num_restarts,
        ready=engine.ready,
        stats=engine.stats,
    )
