"""Gaps between steps, on both kinds of device; the GPU's events are played by numbers."""

import time
from typing import Any

import pytest
import torch

from engines.steps import step_clock
from engines.steps.step_clock import CudaClock, HostClock


class Event:
    """An event that happened at a time in ms, or has not happened yet (None)."""

    def __init__(self, at_ms: float | None) -> None:
        self.at_ms = at_ms

    def query(self) -> bool:
        return self.at_ms is not None

    def elapsed_time(self, other: "Event") -> float:
        assert self.at_ms is not None, "read before it happened"
        assert other.at_ms is not None, "read before it happened"
        return other.at_ms - self.at_ms


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    made: list[Event] = []

    def record() -> Event:
        made.append(Event(None))
        return made[-1]

    monkeypatch.setattr(step_clock, "_event", record)
    return made


def test_a_gap_is_the_time_between_the_end_of_a_step_and_the_begin_of_the_next(events: list[Event]) -> None:
    clock = CudaClock()
    for _ in range(3):
        clock.begin("decode")
        clock.end()
    for event, at_ms in zip(events, (0.0, 10.0, 12.0, 20.0, 20.5, 30.0), strict=True):
        event.at_ms = at_ms
    clock.done()
    assert clock.gap_s == pytest.approx(2.5e-3)


def test_a_step_that_still_runs_is_counted_later(events: list[Event]) -> None:
    clock = CudaClock()
    for _ in range(2):
        clock.begin("decode")
        clock.end()
    events[0].at_ms, events[1].at_ms = 0.0, 1.0
    clock.done()
    assert clock.gap_s == 0
    events[2].at_ms, events[3].at_ms = 4.0, 5.0
    clock.done()
    assert clock.gap_s == pytest.approx(3e-3)


@pytest.mark.parametrize("broke_off", [False, True])
def test_time_without_work_is_no_gap(events: list[Event], broke_off: bool) -> None:
    clock = CudaClock()
    clock.begin("decode")
    if not broke_off:
        clock.end()
    for event, at_ms in zip(events, (0.0, 1.0), strict=False):
        event.at_ms = at_ms
    clock.done()
    clock.rest()
    clock.begin("decode")
    clock.end()
    events[-2].at_ms, events[-1].at_ms = 50.0, 60.0
    clock.done()
    assert clock.gap_s == 0


def test_a_host_counts_what_lies_between_its_steps() -> None:
    clock = HostClock()
    clock.begin("decode")
    clock.end()
    time.sleep(0.01)
    clock.begin("decode")
    clock.end()
    assert clock.gap_s >= 0.01
    seen = clock.gap_s
    clock.rest()
    time.sleep(0.01)
    clock.begin("decode")
    clock.end()
    assert clock.gap_s == seen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_that_waits_for_its_host_has_a_gap() -> None:
    clock: Any = CudaClock()
    x = torch.randn(2048, 2048, device="cuda")
    for _ in range(2):
        clock.begin("decode")
        x @ x
        clock.end()
        torch.cuda.synchronize()
        time.sleep(0.02)
    clock.done()
    assert clock.gap_s >= 0.015


def test_a_step_is_timed_by_phase_and_a_span_knows_its_own_part(events: list[Event]) -> None:
    clock = CudaClock()
    encoding = clock.begin("encode")
    clock.begin("prefill")
    clock.end()
    clock.begin("decode")
    clock.end()
    for event, at_ms in zip(events, (0.0, 4.0, 10.0, 12.0, None), strict=True):
        event.at_ms = at_ms
    clock.done()
    assert encoding.seconds == pytest.approx(4e-3)
    assert clock.phase_s == pytest.approx({"encode": 4e-3, "prefill": 6e-3, "decode": 0.0})
    events[-1].at_ms = 15.0
    clock.done()
    assert clock.phase_s["decode"] == pytest.approx(3e-3)
    assert clock.gap_s == pytest.approx(2e-3)


def test_a_host_times_phases_too() -> None:
    clock = HostClock()
    encoding = clock.begin("encode")
    time.sleep(0.01)
    clock.begin("prefill")
    clock.end()
    assert encoding.seconds >= 0.01
    assert clock.phase_s["encode"] == encoding.seconds
    assert clock.phase_s["prefill"] < 0.01
