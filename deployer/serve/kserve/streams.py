"""Many requests on one stream, answered at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


async def replies_to_all(
    requests: AsyncIterator[Request], answer: Callable[[Request], AsyncGenerator[Reply, None]]
) -> AsyncGenerator[Reply, None]:
    """Yield the replies to all requests as they come, until the last request is answered.

    The first error is raised and ends them all; `answer` tells what is a reply to one request alone.
    """
    arrived: asyncio.Queue[list[Reply] | None] = asyncio.Queue()  # None: there is no more

    async def pump(request: Request) -> None:
        async with aclosing(answer(request)) as replies:
            async for reply in replies:
                arrived.put_nowait([reply])

    async def take() -> None:
        try:
            async with asyncio.TaskGroup() as answers:
                async for request in requests:
                    answers.create_task(pump(request))
        finally:
            arrived.put_nowait(None)

    taking = asyncio.create_task(take())
    try:
        while (found := await arrived.get()) is not None:
            yield found[0]
        await taking
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
