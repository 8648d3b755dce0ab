"""Between one engine and several fronts: each sequence is its front's, and so is every reply to it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from deployer.generation.running_sequences import sequences_of
from engines.messages import Abort, Done, Failed, Reply, Submit, ToEngine


class TakingEngine(Protocol):
    """Of an engine, what a relay needs."""

    def tell(self, message: ToEngine) -> bool:
        """Send a message; False: the engine takes none now."""
        ...

    def refusal(self, request_id: str) -> Failed:
        """Return what a sequence is told that comes while nothing is taken."""
        ...


class Relay:
    """Whose every sequence is. Invariant: exactly those that were sent and have not ended have an owner."""

    def __init__(self, answer: Callable[[int, Sequence[Reply]], None]) -> None:
        """`answer` sends replies to a front."""
        self._answer = answer
        self._owners: dict[str, int] = {}

    def submit(self, engine: TakingEngine, request: Submit, *, front: int) -> None:
        """Pass a sequence on; it is answered at once where the engine takes none or its id is in use."""
        name = request.request_id
        if name in self._owners:
            why = f"request id `{name}` is in use"
            self._answer(front, [Failed(request_id=name, code="invalid_request", message=why)])
        elif engine.tell(request):
            self._owners[name] = front
        else:
            self._answer(front, [engine.refusal(name)])

    def abort(self, engine: TakingEngine, request_id: str, *, front: int) -> None:
        """Pass on that a front wants the end of a sequence of its own."""
        if self._owners.get(request_id) == front:
            engine.tell(Abort(request_id=request_id))

    def owners_of(self, completion: str) -> dict[int, list[str]]:
        """Return the sequences of one completion by the front that has them."""
        found: dict[int, list[str]] = defaultdict(list)
        for name in sequences_of(completion, self._owners):
            found[self._owners[name]].append(name)
        return found

    def lose(self, engine: TakingEngine, front: int) -> int:
        """End the sequences of a front that is gone; returns how many there were."""
        lost = [name for name, owner in self._owners.items() if owner == front]
        for name in lost:
            del self._owners[name]
            engine.tell(Abort(request_id=name))
        return len(lost)

    def put_all(self, replies: Sequence[Reply]) -> None:
        """Hand the replies of a frame to their fronts, each front's as one message."""
        by_front: dict[int, list[Reply]] = defaultdict(list)
        for reply in replies:
            name = reply.request_id
            ends = isinstance(reply, Done | Failed)
            owner = self._owners.pop(name, None) if ends else self._owners.get(name)
            if owner is not None:  # else its front died, or has left it
                by_front[owner].append(reply)
        for front, own in by_front.items():
            self._answer(front, own)

    def fail_all(self, code: str, why: str) -> None:
        """End every sequence that has not ended with a `Failed`."""
        self.put_all([Failed(request_id=name, code=code, message=why) for name in self._owners])

    def __len__(self) -> int:
        return len(self._owners)
