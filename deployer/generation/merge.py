"""Many async generators as one."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merge(streams: Iterable[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Yield from all streams at once, each in its own order; the first error is raised and ends them all.

    All streams are closed when this is; use `contextlib.aclosing` where a loop may leave early.
    """
    arrived: asyncio.Queue[list[T] | Exception | None] = asyncio.Queue()  # an item, a failure, an end

    async def pump(stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    arrived.put_nowait([item])
        except Exception as error:  # handed on, never dropped: raised below
            arrived.put_nowait(error)
        else:
            arrived.put_nowait(None)

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        running = len(pumps)
        while running:
            found = await arrived.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                running -= 1
            else:
                yield found[0]
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
