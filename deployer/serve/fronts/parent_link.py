"""What a front knows of its parent: what that has said so far, and the way to answer it and to ask it."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from deployer.config.devices import EngineChoice
from deployer.serve.fronts.channel import Channel
from deployer.serve.fronts.front_engine import FrontEngine
from deployer.serve.fronts.messages import (
    CheckpointOpened,
    EndSequences,
    EngineNow,
    FromFront,
    FrontStart,
    Replies,
    RequestEnds,
    RequestToEnd,
    StoreAnswer,
    decode_to_front,
    encode,
)
from deployer.serve.response_store import StoreAsk
from deployer.serve.service import Service


class ParentLink:
    """The parent as its front has it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.start: asyncio.Future[FrontStart] = loop.create_future()
        self.opened: asyncio.Future[EngineChoice] = loop.create_future()
        self.engine_is_ready = asyncio.Event()
        self.engine = FrontEngine(self.tell, changed=self._engine_changed)
        self.service: Service | None = None  # None: the front does not answer yet
        self._channel: Channel | None = None
        self._asked: deque[asyncio.Future[int]] = deque()  # how many sequences end, the oldest question first
        self._asked_store: deque[asyncio.Future[bytes | None]] = deque()  # likewise

    async def listen(self, end: socket.socket, *, on_end: Callable[[], None]) -> None:
        """Hear messages from now on; `on_end` is called when the parent is gone."""
        self._channel = await Channel.over(end, on_frame=self._take, on_end=on_end)

    def tell(self, message: FromFront) -> None:
        """Send a message."""
        assert self._channel is not None, "the parent is listened to before it is told anything"
        self._channel.send(encode(message))

    async def end_request(self, completion: str) -> int:
        """End a request of whichever front has it; returns how many sequences it had."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self.tell(RequestToEnd(completion=completion))
        return await answer

    async def ask_store(self, ask: StoreAsk) -> bytes | None:
        """Have the parent's store of responses do something (`ResponseStore.take`)."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked_store.append(answer)
        self.tell(ask)
        return await answer

    def _take(self, frame: bytes) -> None:
        match message := decode_to_front(frame):
            case Replies():
                self.engine.put_all(message.replies)
            case EngineNow():
                self.engine.take(message)
            case CheckpointOpened():
                self.opened.set_result(EngineChoice(kind=message.kind, device=message.device, reason=None))
            case EndSequences():
                if self.service is not None:  # else it has none
                    self.service.running.end(self.engine, message.request_ids, by="operator")
            case RequestEnds():
                answer = self._asked.popleft()
                if not answer.done():  # else who asked has left
                    answer.set_result(message.num_sequences)
            case StoreAnswer():
                stored = self._asked_store.popleft()
                if not stored.done():  # likewise
                    stored.set_result(message.part)
            case FrontStart():
                self.start.set_result(message)

    def _engine_changed(self) -> None:
        if self.engine.ready is not None:
            self.engine_is_ready.set()
