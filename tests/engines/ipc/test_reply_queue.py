"""Replies come in order, none is lost, and deltas that wait come as one."""

import asyncio

import msgspec

from engines.ipc.reply_queue import ReplyQueue
from engines.messages import Delta, Failed, TokenLogprobs


def delta(*token_ids: int) -> Delta:
    logprobs = tuple(TokenLogprobs(chosen=-float(i), top_ids=(), top_logprobs=()) for i in token_ids)
    return Delta(request_id="a", token_ids=token_ids, logprobs=logprobs)


END = Failed(request_id="a", code="engine_error", message="x")


async def test_deltas_that_wait_come_as_one_and_the_end_alone() -> None:
    queue = ReplyQueue()
    for reply in (delta(1), delta(2, 3), delta(4), END):
        queue.put(reply)
    assert await queue.get() == delta(1, 2, 3, 4)
    assert await queue.get() == END


async def test_what_is_told_of_a_prompt_is_joined_too() -> None:
    scores = [TokenLogprobs(chosen=-1.0 - i, top_ids=(i,), top_logprobs=(-0.5,)) for i in range(3)]
    queue = ReplyQueue()
    for found in (scores[:1], scores[1:]):
        queue.put(Delta(request_id="a", token_ids=(), logprobs=(), prompt_logprobs=tuple(found)))
    queue.put(delta(4))
    joined = await queue.get()
    assert joined == msgspec.structs.replace(delta(4), prompt_logprobs=tuple(scores))


async def test_a_reader_that_keeps_up_gets_each_delta() -> None:
    queue, got = ReplyQueue(), []

    async def read() -> None:
        while (reply := await queue.get()) != END:
            got.append(reply)

    reader = asyncio.create_task(read())
    for token_id in range(3):
        queue.put(delta(token_id))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    queue.put(END)
    await asyncio.wait_for(reader, 5)
    assert got == [delta(0), delta(1), delta(2)]


async def test_a_cancelled_wait_loses_nothing() -> None:
    queue = ReplyQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(delta(7))
    reader.cancel()
    await asyncio.wait((reader,))
    assert await asyncio.wait_for(queue.get(), 5) == delta(7)
