"""The loop of a sweep: take a point, judge it, run it where a device is free, settle it.

Cancelled (Ctrl-C), it ends what runs and leaves what is settled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deployer.sweeps.feasible import Verdict
from deployer.sweeps.point import Point, Result
from deployer.sweeps.slots import Slots
from deployer.sweeps.source import Source

Judge = Callable[[Point], Verdict]
Measure = Callable[[Point, Verdict, list[int]], Awaitable[Result]]
Settle = Callable[[Result], None]
Begin = Callable[[Point], None]


@dataclass(kw_only=True, slots=True)
class Runner:
    """A sweep under way."""

    source: Source
    slots: Slots
    judge: Judge
    measure: Measure
    settle: Settle  # called once a point, from the loop
    begin: Begin  # a point starts to run
    known: dict[tuple[str, ...], Result]  # settled points by their words; a search may propose one again
    _running: dict[asyncio.Task[Result], list[int]] = field(default_factory=dict)

    async def run(self) -> None:
        """Settle every point that the source gives."""
        waiting: tuple[Point, Verdict] | None = None
        try:
            while True:
                # Not judged ahead of time: a search then knows more, and a measured CPU is left alone.
                if waiting is None and self.slots.any_free:
                    waiting = self._next_to_run()
                if waiting is not None and self._start(*waiting):
                    waiting = None
                elif self._running:
                    await self._one_ends()
                else:
                    assert waiting is None, "a point that can't run even alone was refused"
                    return
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _next_to_run(self) -> tuple[Point, Verdict] | None:
        """Return the next point that has to run; those that need not are settled on the way."""
        while (point := self.source.next()) is not None:
            again = self.known.get(tuple(sorted(point.words)))
            if again is not None:
                self._settled(_repeated(point, again))
                continue
            verdict = self.judge(point)
            if verdict.refusal is None:
                return point, verdict
            self._settled(_pruned(point, verdict))
        return None

    def _start(self, point: Point, verdict: Verdict) -> bool:
        devices = self.slots.take(verdict.num_devices)
        if devices is None:
            return False
        self.begin(point)
        task = asyncio.ensure_future(self.measure(point, verdict, devices))
        self._running[task] = devices
        return True

    async def _one_ends(self) -> None:
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            self.slots.give_back(self._running.pop(task))
            self._settled(task.result())

    def _settled(self, result: Result) -> None:
        self.known.setdefault(tuple(sorted(result.words)), result)
        self.settle(result)
        self.source.tell(result)


def _pruned(point: Point, verdict: Verdict) -> Result:
    return Result(
        number=point.number,
        words=point.words,
        status="pruned",
        reason=verdict.refusal,
        hardware=verdict.hardware,
        figures={},
        same_as=None,
        seconds=0.0,
        date=datetime.now(UTC).date().isoformat(),
        about={},
        report=None,
    )


def _repeated(point: Point, first: Result) -> Result:
    """Return the result of a point that was settled under another number."""
    return Result(
        number=point.number,
        words=point.words,
        status=first.status,
        reason=first.reason,
        hardware=first.hardware,
        figures=first.figures,
        same_as=first.same_as or first.number,
        seconds=0.0,
        date=first.date,
        about=first.about,
        report=first.report,
    )
