"""Blocking work in a thread that does not keep the process alive: opening a checkpoint may download it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """One piece of work, begun at once."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()
        self._future.set_running_or_notify_cancel()
        threading.Thread(target=self._run, name="background", daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:  # handed on, never dropped: `result` raises it
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    async def result(self) -> T:
        """Return what the work gives, or raise what it raised; cancelling this leaves the work running."""
        return await asyncio.wrap_future(self._future)

    @property
    def is_running(self) -> bool:
        """Whether the work goes on."""
        return not self._future.done()
