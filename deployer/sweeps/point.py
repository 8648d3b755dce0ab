"""One point of a sweep and what became of it."""

from dataclasses import dataclass
from typing import Any, Literal

# done: measured; pruned: ruled out before it ran; failed: it ran and ended without a report.
Status = Literal["done", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What makes one point differ from the others."""

    number: int  # from 1; in a grid its place
    words: tuple[str, ...]  # overrides, one an axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a point came to; one JSON file of a run."""

    number: int
    words: tuple[str, ...]
    status: Status
    reason: str | None  # why it is not done
    hardware: str | None  # option of conf/hardware that describes where it ran or was to run; None: none does
    figures: dict[str, float]  # empty unless done
    same_as: int | None  # the point whose figures these are, where a search proposed it again
    seconds: float  # it took, loading included
    date: str
    about: dict[str, str]  # machine, versions, commit, as the benchmark told them
    report: dict[str, Any] | None  # all that the benchmark printed
