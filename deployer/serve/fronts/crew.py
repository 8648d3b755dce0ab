"""The fronts of one server: started, told of the engine, started again when they die."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from deployer.errors import UnavailableError
from deployer.serve.fronts.child import FRONT_COMMAND, FrontChild
from deployer.serve.fronts.front_engine import now_of
from deployer.serve.fronts.front_latency import ParentLatency
from deployer.serve.fronts.messages import (
    Answering,
    CheckpointOpened,
    EndSequences,
    FromFront,
    FrontFailed,
    FrontStart,
    Listening,
    PlaceRefused,
    Replies,
    RequestEnded,
    RequestEnds,
    RequestToEnd,
    StoreAnswer,
    encode,
)
from deployer.serve.fronts.relay import Relay
from deployer.serve.fronts.shared_places import CLOSED, SharedPlaces
from deployer.serve.response_store import ForgetResponse, ReadResponse, ResponseStore, StoredResponse
from engines.ipc.restart_pace import RestartPace
from engines.ipc.supervised import SupervisedEngine
from engines.messages import Abort, Flush, Reply, Submit

LOOK_S = 1.0
SLOW_S = 3.0  # without a beat: connections go to others
SILENCE_S = 30.0  # without a beat: it hangs, or a signal holds it up
EARLY_DEATHS = 3  # of fronts before all have answered: the server does not start

log = logging.getLogger("deployer.serve")


class Crew:
    """Keeps `server.processes` fronts alive from `start` to `end`."""

    def __init__(
        self,
        starts: Sequence[FrontStart],
        places: SharedPlaces,
        *,
        responses: ResponseStore,
        latency: ParentLatency | None = None,
        command: Sequence[str] = FRONT_COMMAND,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`starts`: the first message of each front; one that beats not for `silence_s` is ended.

        `responses`: those that all fronts keep. `latency`: None where no target bounds the places.
        """
        self._responses = responses
        self._latency = latency
        self._starts = starts
        self._command = command
        self._silence_s = silence_s
        self._places = places
        self._children: dict[int, FrontChild] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._engine: SupervisedEngine | None = None
        self._opened: CheckpointOpened | None = None
        self._fingerprint: str | None = None
        self._all_answer = asyncio.Event()
        self._first_fault: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._num_early_deaths = 0
        self._ends = asyncio.Event()
        self.relay = Relay(self._answer)

    def start(self) -> None:
        """Start the fronts."""
        self._keepers = [asyncio.create_task(self._keep(start)) for start in self._starts]

    def watch(self, engine: SupervisedEngine, opened: CheckpointOpened) -> None:
        """Tell the fronts of an engine from now on, and pass on what they submit."""
        self._engine, self._opened = engine, opened
        for child in self._children.values():
            child.tell(opened)

    def tell_of_engine(self) -> None:
        """Tell all fronts what the engine says of itself now."""
        if self._engine is not None:
            frame = encode(now_of(self._engine))
            for child in self._children.values():
                child.send(frame)

    def takers(self) -> list[FrontChild]:
        """Return the fronts that may have the next connection, those with the fewest first."""
        able = [
            (index, child)
            for index, child in self._children.items()
            if (child.is_answering if self._all_answer.is_set() else child.is_listening)
            and not child.exit.done()
        ]
        return [child for _, child in sorted(able, key=lambda pair: self._load_of(*pair))]

    async def all_answer(self) -> None:
        """Wait until every front answers. Raises UnavailableError where one cannot."""
        ready = asyncio.create_task(self._all_answer.wait())
        try:
            await asyncio.wait((ready, self._first_fault), return_when=asyncio.FIRST_COMPLETED)
            if not self._all_answer.is_set():
                raise UnavailableError(self._first_fault.result())
        finally:
            ready.cancel()

    def signal(self, number: signal.Signals) -> None:
        """Tell all fronts to drain; a second one leaves them no time."""
        self._ends.set()
        for child in self._children.values():
            child.signal(number)

    async def end(self, within_s: float) -> None:
        """Wait until all fronts have ended, and end those that take longer."""
        self._ends.set()
        exits = [child.exit for child in self._children.values()]
        if exits:
            _, late = await asyncio.wait(exits, timeout=within_s)
            if late:
                log.error("%d server processes did not end in time and are killed", len(late))
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        await asyncio.gather(*self._keepers)
        for child in self._children.values():
            child.close()
        self._children.clear()

    async def _keep(self, start: FrontStart) -> None:
        """Start one front again and again, however often it dies."""
        pace = RestartPace()
        while not self._ends.is_set():
            try:
                child = await self._spawn(start)
            except OSError as error:
                self._tell_of_fault(
                    f"server process {start.index} cannot be started: {error}", is_hopeless=False
                )
            else:
                if self._ends.is_set():  # while it was started
                    child.signal(signal.SIGKILL)
                await self._until_gone(start.index, child)
                if self._ends.is_set():
                    return
                self._bury(start.index, child)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), pace.next_wait_s(time.monotonic()))

    async def _spawn(self, start: FrontStart) -> FrontChild:
        self._places.clear(start.index)
        child = await FrontChild.spawn(
            Path(start.folder),
            take=lambda child, message: self._take(start.index, child, message),
            command=self._command,
        )
        self._children[start.index] = child
        child.tell(start)
        if self._opened is not None and self._engine is not None:
            child.tell(self._opened)
            child.tell(now_of(self._engine))
        return child

    async def _until_gone(self, index: int, child: FrontChild) -> None:
        """Wait for the end of a front; one that takes no turns any more is ended."""
        while not child.exit.done():
            await asyncio.wait((child.exit,), timeout=LOOK_S)
            silence_s = self._places.silence_s(index)
            if child.is_listening and silence_s > self._silence_s:
                child.fault = f"it took no turn for {silence_s:.0f} s"
                child.signal(signal.SIGKILL)
                await child.exit

    def _bury(self, index: int, child: FrontChild) -> None:
        """Give back all that a front held that is gone."""
        del self._children[index]
        child.close()
        lost = 0 if self._engine is None else self.relay.lose(self._engine, index)
        self._places.clear(index)
        told = f"server process {index} (pid {child.pid}) {child.death()}"
        self._tell_of_fault(
            f"{told}; its {lost} sequences are lost, it is started again", is_hopeless=child.fault is not None
        )

    def _tell_of_fault(self, told: str, *, is_hopeless: bool) -> None:
        """Log the end of a front; the server does not start where it is hopeless, or one of many."""
        log.error("%s", told)
        if self._all_answer.is_set():
            return
        self._num_early_deaths += 1
        if (is_hopeless or self._num_early_deaths >= EARLY_DEATHS) and not self._first_fault.done():
            self._first_fault.set_result(f"the server did not start: {told}")

    def _take(self, index: int, child: FrontChild, message: FromFront) -> None:
        match message:
            case Submit() if self._engine is not None:
                self.relay.submit(self._engine, message, front=index)
            case Abort() if self._engine is not None:
                self.relay.abort(self._engine, message.request_id, front=index)
            case Flush() if self._engine is not None:
                self._engine.tell(message)
            case PlaceRefused() | RequestEnded() if self._latency is not None:
                self._latency.take(message)
            case RequestToEnd():
                self._end_request(child, message.completion)
            case StoredResponse() | ReadResponse() | ForgetResponse():
                child.tell(StoreAnswer(part=self._responses.take(message)))
            case Listening():
                child.is_listening = True
            case Answering():
                self._answers(child, message.fingerprint)
            case FrontFailed():
                child.fault = message.message

    def _end_request(self, asker: FrontChild, completion: str) -> None:
        """Pass on what an operator wants to the fronts whose it is, and tell who was asked."""
        owners = self.relay.owners_of(completion)
        for front, names in owners.items():
            if front in self._children:
                self._children[front].tell(EndSequences(request_ids=names))
        asker.tell(RequestEnds(num_sequences=sum(map(len, owners.values()))))

    def _answers(self, child: FrontChild, fingerprint: str) -> None:
        """Let a front answer that serves what the first one does."""
        self._fingerprint = self._fingerprint or fingerprint
        if fingerprint != self._fingerprint:
            child.fault = "files that it reads have changed since the server began: restart the server"
            child.signal(signal.SIGKILL)
            return
        child.is_answering = True
        if sum(one.is_answering for one in self._children.values()) == len(self._starts):
            self._all_answer.set()

    def _answer(self, front: int, replies: Sequence[Reply]) -> None:
        child = self._children.get(front)
        if child is not None:
            child.tell(Replies(replies=replies))

    def _load_of(self, index: int, child: FrontChild) -> tuple[bool, int]:
        """Return whether a front is slow now, and how many connections it holds."""
        return self._places.silence_s(index) > SLOW_S, child.num_handed - self._places.of(index, CLOSED)
