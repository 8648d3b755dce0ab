"""A signal that asks a long run to close its books, where it would end it without them."""

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupt() -> Generator[asyncio.Event, None, None]:
    """Yield what the first SIGINT or SIGTERM sets; a second one ends the process as ever."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def ask() -> None:
        asked.set()
        release()

    def release() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, ask)
    try:
        yield asked
    finally:
        release()


async def waited(asked: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until it is asked for; return whether it is."""
    try:
        await asyncio.wait_for(asked.wait(), seconds)
    except TimeoutError:
        return False
    return True
