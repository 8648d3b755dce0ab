"""An event loop on a thread of its own, for callers that have none, or one that they must not block on.

A notebook runs inside an event loop, where `asyncio.run` is refused; this works there as in a script.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def runs_here(self) -> bool:
        """Whether its thread is one of this process; a process that was forked has none of its parent's."""
        return self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine and return its result.

        What a signal raises meanwhile (Ctrl-C) cancels it, waits until it has cleaned up, and goes on.
        """
        assert not self._loop.is_closed(), "nothing runs on a loop that was closed"
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # a signal's, unless it is the coroutine's own
            if future.cancel():
                self._settle()
            raise

    def close(self) -> None:
        """Stop the loop and its thread; safe to call twice."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _settle(self) -> None:
        """Wait until what was cancelled has ended."""

        async def others() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            cancelled = {task for task in tasks if task.cancelling()}
            await asyncio.gather(*cancelled, return_exceptions=True)

        wait([asyncio.run_coroutine_threadsafe(others(), self._loop)])

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
