"""What a front asks its parent: answers come in the order of the questions, also to those who have left."""

import asyncio
import contextlib
import socket

from deployer.serve.fronts.channel import Channel
from deployer.serve.fronts.messages import RequestEnds, RequestToEnd, StoreAnswer, decode_from_front, encode
from deployer.serve.fronts.parent_link import ParentLink
from deployer.serve.response_store import ReadResponse


async def test_who_has_left_gets_the_answer_of_nobody_else() -> None:
    ours, theirs = socket.socketpair()
    link = ParentLink()
    gone = asyncio.Event()
    await link.listen(theirs, on_end=gone.set)
    heard: list[ReadResponse | RequestToEnd] = []

    def take(frame: bytes) -> None:
        message = decode_from_front(frame)
        assert isinstance(message, ReadResponse | RequestToEnd)
        heard.append(message)

    parent = await Channel.over(ours, on_frame=take, on_end=lambda: None)
    asks = [
        asyncio.create_task(link.ask_store(ReadResponse(id=name, owner=None, part="response")))
        for name in ("a", "b", "c")
    ]
    ends = asyncio.create_task(link.end_request("chatcmpl-1"))
    while len(heard) < 4:
        await asyncio.sleep(0)
    asks[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asks[0]
    parent.send(encode(RequestEnds(num_sequences=2)))
    for part in (b"of a", b"of b", None):
        parent.send(encode(StoreAnswer(part=part)))
    assert await asyncio.gather(asks[1], asks[2], ends) == [b"of b", None, 2]
    parent.close()
    await gone.wait()
