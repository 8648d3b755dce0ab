"""How many places of a server are held, in all and by class: the books behind `Admission`.

`OwnPlaces` are those of a server that is one process; `fronts/shared_places.py` has those of several.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class HeldPlaces(Protocol):
    """Counts of requests in flight."""

    paused: bool  # whether an operator lets no request in

    @property
    def total(self) -> int:
        """All of them."""
        ...

    @property
    def by_class(self) -> Mapping[str, int]:
        """Those of each class of service."""
        ...

    def change(self, by: int, qos: str | None) -> None:
        """Take or give back places of a class; None: of no class."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Return a block in which nobody else changes the counts: to look and to take are one act."""
        ...


class OwnPlaces:
    """The places of a server of one process, whose event loop runs one step at a time."""

    def __init__(self) -> None:
        self.total = 0
        self.by_class: Counter[str] = Counter()
        self.paused = False

    def change(self, by: int, qos: str | None) -> None:
        """Take or give back places of a class; None: of no class."""
        self.total += by
        if qos is not None:
            self.by_class[qos] += by

    def alone(self) -> AbstractContextManager[None]:
        """Return a block that has nobody to keep out."""
        return nullcontext()
