"""The sequences of all requests that an engine has now, and who asked for the end of some of them."""

from collections.abc import Iterable, Iterator
from typing import Literal

from engines.engine import Engine

EndedBy = Literal["operator", "shutdown"]


class RunningSequences:
    """Request ids as the engine knows them; an end that nobody asked for has no entry."""

    def __init__(self) -> None:
        self._ended_by: dict[str, EndedBy | None] = {}

    def add(self, request_ids: Iterable[str]) -> None:
        """Note what goes to the engine."""
        self._ended_by.update(dict.fromkeys(request_ids))

    def remove(self, request_ids: Iterable[str]) -> None:
        """Forget what has ended."""
        for request_id in request_ids:
            self._ended_by.pop(request_id, None)

    def end(self, engine: Engine, request_ids: Iterable[str], *, by: EndedBy) -> None:
        """Ask the engine for the end of some; their clients are told who ended them."""
        for request_id in request_ids:
            self._ended_by[request_id] = by
            engine.abort(request_id)

    def ended_by(self, request_id: str) -> EndedBy | None:
        """Return who asked for the end of one; None: nobody."""
        return self._ended_by.get(request_id)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._ended_by))

    def __len__(self) -> int:
        return len(self._ended_by)


def sequences_of(completion: str, request_ids: Iterable[str]) -> list[str]:
    """Return those that are choices of one completion, whose id each begins with."""
    return sorted(name for name in request_ids if name.rpartition("-")[0] == completion)
