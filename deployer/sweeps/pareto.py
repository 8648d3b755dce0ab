"""Which points nothing beats."""

from collections.abc import Mapping, Sequence

from deployer.sweeps.figures import DIRECTIONS
from deployer.sweeps.point import Result


def front(results: Sequence[Result], objectives: Sequence[str]) -> list[int]:
    """Return the numbers of the measured points that no other equals in every objective and beats in one."""
    measured = {
        result.number: losses(result.figures, objectives)
        for result in results
        if result.status == "done" and result.same_as is None
    }
    return [
        number
        for number, mine in measured.items()
        if not any(_beats(other, mine) for other in measured.values())
    ]


def losses(figures: Mapping[str, float], objectives: Sequence[str]) -> tuple[float, ...]:
    """Return the objectives turned so that less is better."""
    return tuple(-figures[name] if DIRECTIONS[name] == "maximize" else figures[name] for name in objectives)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
