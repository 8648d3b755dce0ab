"""Classes of service: what each is owed of the batch's slots and of a step's prompt tokens. Ints only.

A class that waits goes in front while it holds fewer slots than it is owed, and takes them back from classes
that hold more; what nobody is owed goes by priority, then by arrival. The scheduler asks; without classes
nothing is owed to anybody, and rank alone decides.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from itertools import takewhile

from engines.options import SchedulerOptions
from engines.schedule.sequence import Sequence


class ServiceClasses:
    """The classes of one engine, by number."""

    def __init__(self, options: SchedulerOptions, running: Seq[Sequence]) -> None:
        """`running`: the scheduler's own queue, by rank."""
        self._running = running
        self._shares = tuple(one.share for one in options.classes)
        self._slots = tuple(_part(share, options.max_batch_size) for share in self._shares)

    def holds(self, service_class: int) -> bool:
        """Tell whether there is such a class; without classes all is of class 0."""
        return 0 <= service_class < max(len(self._shares), 1)

    def next_up(self, waiting: Seq[Sequence]) -> Sequence:
        """Return who is admitted next: the first of a class below its slots, or else the first in rank."""
        if self._shares:
            held = _held(self._running)
            for one in waiting:
                if self._lacks(one.service_class, held):
                    return one
        return waiting[0]

    def gives_way(self, *, to: Sequence) -> Sequence | None:
        """Return who is preempted so that a newcomer can run; None where nobody has to.

        The last in rank of those below it in priority, or of all where its class is below its slots; with
        classes, only of those that hold more slots than they are owed.
        """
        if not self._shares:
            last = self._running[-1] if self._running else None
            return last if last is not None and last.priority > to.priority else None
        held = _held(self._running)
        lacks = self._lacks(to.service_class, held)
        for one in reversed(self._running):
            if self._exceeds(one.service_class, held) and (lacks or one.priority > to.priority):
                return one
        return None

    def gives_pages(self, *, to: Sequence) -> Sequence | None:
        """Return who is preempted for a sequence that needs pages; None where it has to wait.

        The last in rank behind it; with classes, the last of those that hold more slots than they are owed
        comes first, and where that is the sequence itself it waits, unless it is the first of its class.
        """
        if self._shares:
            held = _held(self._running)
            for one in takewhile(lambda one: one is not to, reversed(self._running)):
                if self._exceeds(one.service_class, held):
                    return one
            first = next(one for one in self._running if one.service_class == to.service_class)
            if self._exceeds(to.service_class, held) and first is not to:
                return None
        return None if self._running[-1] is to else self._running[-1]

    def prompt_parts(self, prefilling: Iterable[Sequence], budget: int) -> dict[int, int]:
        """Return the prompt tokens that are kept for sequences, by arrival; the rest goes by rank.

        Within a class the first in rank come first. The first of all gets one token at least: who is first
        in rank moves in every step.
        """
        left = [_part(share, budget) for share in self._shares]
        parts: dict[int, int] = {}
        spare = budget
        for one in prefilling if self._shares else ():
            part = min(one.num_pending, left[one.service_class], spare)
            part = part if parts else max(part, 1)
            left[one.service_class] = max(left[one.service_class] - part, 0)
            spare -= part
            parts[one.arrival] = part
        return parts

    def count(self, sequences: Iterable[Sequence]) -> tuple[int, ...]:
        """Return how many of these are of each class; empty without classes."""
        held = _held(sequences) if self._shares else Counter[int]()
        return tuple(held[number] for number in range(len(self._shares)))

    def _lacks(self, service_class: int, held: Counter[int]) -> bool:
        return held[service_class] < self._slots[service_class]

    def _exceeds(self, service_class: int, held: Counter[int]) -> bool:
        return held[service_class] > self._slots[service_class]


def _part(share: float, whole: int) -> int:
    """Return a share in whole pieces; one that is above 0 is one piece at least."""
    return max(int(share * whole), 1) if share > 0 else 0


def _held(running: Iterable[Sequence]) -> Counter[int]:
    return Counter(one.service_class for one in running)
