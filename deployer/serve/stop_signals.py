"""SIGINT and SIGTERM: the first asks for a drain, the second for the end at once. SIGHUP only asks.

Where a terminal closes, its system and its shell may each send a SIGHUP: two of them do not insist.
"""

import asyncio
import signal
from collections.abc import Awaitable
from typing import Self, TypeVar

from deployer.ending_signals import ending_signals
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK

INTERRUPTED = "interrupted before the server was ready"
T = TypeVar("T")


class Interrupted(Exception):
    """A signal came before the awaited thing was there."""


class StopSignals:
    """Listens while it is entered, on the running loop."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.exit_code = EXIT_OK
        self._numbers = ending_signals()

    def __enter__(self) -> Self:
        for number in self._numbers:
            asyncio.get_running_loop().add_signal_handler(number, self._came, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._numbers:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _came(self, number: signal.Signals) -> None:
        if self.first.is_set() and number != signal.SIGHUP:
            self.second.set()
        self.first.set()
        if number == signal.SIGINT:
            self.exit_code = EXIT_INTERRUPTED


async def unless(event: asyncio.Event, work: Awaitable[T]) -> T:
    """Return what `work` gives; where the event comes first, `work` is cancelled and Interrupted raised."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted
    finally:
        waiter.cancel()
        task.cancel()
        await asyncio.wait((task, waiter))
