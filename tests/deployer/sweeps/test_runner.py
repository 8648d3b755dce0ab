"""The loop: what runs beside what, what does not run at all, and what stays when it is cancelled."""

import asyncio
from dataclasses import dataclass, field

import pytest
from sweep_results import done

from deployer.sweeps.feasible import Verdict
from deployer.sweeps.point import Point, Result
from deployer.sweeps.runner import Runner
from deployer.sweeps.slots import Slots


@dataclass
class Listed:
    """A source that gives these words, and remembers what it was told."""

    words: list[str]
    told: list[Result] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.words)

    def next(self) -> Point | None:
        if not self.words:
            return None
        number = 100 - len(self.words)
        return Point(number=number, words=(self.words.pop(0),))

    def tell(self, result: Result) -> None:
        self.told.append(result)


@dataclass
class Bench:
    """Measures by waiting; knows the most that ran at once, and on which GPUs."""

    seconds: float = 0.01
    running: int = 0
    most: int = 0
    used: list[tuple[int, ...]] = field(default_factory=list)
    ended: int = 0

    async def measure(self, point: Point, verdict: Verdict, devices: list[int]) -> Result:
        self.running += 1
        self.most = max(self.most, self.running)
        self.used.append(tuple(devices))
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
            self.ended += 1
        return done(point.number, *point.words)


def judge(point: Point) -> Verdict:
    """`tp=2` takes two GPUs, `cpu` none, `big` does not fit."""
    (word,) = point.words
    refusal = "does not fit" if word == "big" else None
    return Verdict(refusal=refusal, hardware="h200", num_devices={"cpu": 0, "tp=2": 2}.get(word, 1))


def runner(source: Listed, bench: Bench, gpus: list[int], settled: list[Result]) -> Runner:
    return Runner(
        source=source,
        slots=Slots(gpus),
        judge=judge,
        measure=bench.measure,
        settle=settled.append,
        begin=lambda point: None,
        known={},
    )


async def test_points_run_side_by_side_on_gpus_of_their_own() -> None:
    bench, settled = Bench(), list[Result]()
    await runner(Listed(["a", "b", "tp=2", "c"]), bench, [0, 1], settled).run()
    assert bench.most == 2
    assert bench.used == [(0,), (1,), (0, 1), (0,)]
    assert [result.status for result in settled] == ["done"] * 4


async def test_on_the_cpu_one_point_runs_at_a_time() -> None:
    bench = Bench()
    source = Listed(["cpu"])
    source.words += ["cpu2"]
    made = runner(source, bench, [], [])
    made.judge = lambda point: Verdict(refusal=None, hardware="cpu", num_devices=0)
    await made.run()
    assert (bench.most, bench.used) == (1, [(), ()])


async def test_what_the_plan_rules_out_never_runs_and_says_why() -> None:
    bench, settled, source = Bench(), list[Result](), Listed(["big", "a"])
    await runner(source, bench, [0], settled).run()
    assert [(result.status, result.reason) for result in settled] == [
        ("pruned", "does not fit"),
        ("done", None),
    ]
    assert bench.used == [(0,)]
    assert source.told == settled


async def test_a_point_that_comes_again_is_not_measured_again() -> None:
    bench, settled = Bench(), list[Result]()
    await runner(Listed(["a", "a", "a"]), bench, [0], settled).run()
    assert bench.ended == 1
    assert [result.same_as for result in settled] == [None, 97, 97]
    assert settled[2].figures == settled[0].figures


async def test_cancelled_it_ends_what_runs_and_keeps_what_is_settled() -> None:
    bench, settled = Bench(), list[Result]()
    task = asyncio.create_task(runner(Listed(["a", "b", "c"]), bench, [0], settled).run())
    while len(settled) < 1:
        await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(settled) < 3
    assert bench.running == 0


async def test_a_fault_of_ours_ends_the_sweep_and_its_other_points() -> None:
    async def broken(point: Point, verdict: Verdict, devices: list[int]) -> Result:
        if point.words == ("b",):
            raise RuntimeError("boom")
        return await bench.measure(point, verdict, devices)

    bench = Bench(seconds=5)
    made = runner(Listed(["a", "b"]), bench, [0, 1], [])
    made.measure = broken
    with pytest.raises(RuntimeError, match="boom"):
        await made.run()
    assert bench.running == 0
