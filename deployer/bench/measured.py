"""What a benchmark has measured so far; Ctrl-C ends the measuring and keeps it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import uvloop

from deployer.errors import EXIT_INTERRUPTED, EXIT_OK
from engines.messages import Ready

Row = TypeVar("Row")


@dataclass(kw_only=True, slots=True)
class Measured(Generic[Row]):
    """Rows as they get done, and what they depend on."""

    rows: list[Row]
    about: dict[str, str]
    ready: Ready | None  # what the engine got; None: it has not started, or another's server is asked


def run_until_interrupted(work: Callable[[], Awaitable[None]], measured: Measured[Row]) -> int:
    """Run `work`, which fills `measured`; return the exit code. An interruption is noted in `about`."""

    async def run() -> None:
        await work()

    try:
        # The event loop of the server, whose part in the time between an engine and its reader is measured.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except KeyboardInterrupt:
        count = len(measured.rows)
        done = f"{count} row{'' if count == 1 else 's'} done, the others are missing"
        measured.about["interrupted"] = done if count else "before the first row was done"
        print(f"interrupted: {measured.about['interrupted']}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK
