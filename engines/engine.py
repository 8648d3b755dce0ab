"""What a front end sees of an engine. Torch-free; `engines/ipc/client.py` is the real one, tests have theirs.

starting ──▶ ready ──▶ restarting ──▶ ready ...
    └──────────┴───────────┴──▶ dead        (`fault` says why)
"""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

from engines.ipc.pixel_files import PixelFiles
from engines.messages import Ready, Reply, Submit
from engines.stats import Stats

EngineState = Literal["starting", "ready", "restarting", "dead"]


class Engine(Protocol):
    """A running engine that answers every submitted sequence with exactly one `Done` or `Failed`."""

    @property
    def state(self) -> EngineState:
        """Whether sequences are taken now."""
        ...

    @property
    def state_s(self) -> float:
        """Seconds in this state."""
        ...

    @property
    def back_in_s(self) -> float | None:
        """Seconds until a restarting engine should serve again; None where nobody knows."""
        ...

    @property
    def phase(self) -> str | None:
        """What a start is busy with; None where nothing starts."""
        ...

    @property
    def fault(self) -> str | None:
        """Why the engine was last restarted or is dead; None where it never failed."""
        ...

    @property
    def num_restarts(self) -> int:
        """Restarts since `start`."""
        ...

    @property
    def ready(self) -> Ready | None:
        """What the engine got at its last start; None before the first."""
        ...

    @property
    def stats(self) -> Stats | None:
        """The last figures the engine sent; None before the first and while it is away."""
        ...

    @property
    def pixels(self) -> PixelFiles:
        """Where the pixels of a request are put before it is submitted."""
        ...

    async def start(self) -> None:
        """Start and wait until ready; raises the EngineError that kept it from starting."""
        ...

    def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        """Yield the replies of one sequence: any number of Delta, then exactly one Done or Failed.

        The request is sent when iteration begins. It owns its pixel files from then on. Closing the generator
        early or cancelling its consumer aborts the sequence; use `contextlib.aclosing` where a loop may leave
        early. While the engine is not ready the answer is `Failed(code="engine_unavailable")`; a death in
        between is `Failed(code="engine_error")`.
        """
        ...

    def abort(self, request_id: str) -> None:
        """Ask for the end of a sequence; its stream ends with `Done(finish_reason="abort")`."""
        ...

    def flush(self) -> None:
        """Ask for an empty prefix cache; requests from now on find nothing that was there before."""
        ...

    async def close(self, *, at_once: bool = False) -> None:
        """Stop the engine; streams still open end with Failed. Safe to call twice.

        `at_once` leaves it no time to say goodbye.
        """
        ...
