"""Where the points of a sweep come from: a grid, or a search (`search.py`)."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from deployer.sweeps.point import Point, Result
from deployer.sweeps.space import Space


class Source(Protocol):
    """Gives points one after another and is told what they came to."""

    @property
    def total(self) -> int:
        """Points that will be settled in all."""
        ...

    def next(self) -> Point | None:
        """Return a further point; None where there is none, now or ever."""
        ...

    def tell(self, result: Result) -> None:
        """Take in what a point came to."""
        ...


class Grid:
    """Every combination, in its order, but for those that are settled."""

    def __init__(self, space: Space, settled: Mapping[int, Result]) -> None:
        self.total = space.num_combinations
        self._left = _unsettled(space, settled)

    def next(self) -> Point | None:
        """Return the next combination."""
        return next(self._left, None)

    def tell(self, result: Result) -> None:
        """A grid learns nothing."""


def _unsettled(space: Space, settled: Mapping[int, Result]) -> Iterator[Point]:
    for number, words in enumerate(space.grid(), start=1):
        if number not in settled:
            yield Point(number=number, words=words)
