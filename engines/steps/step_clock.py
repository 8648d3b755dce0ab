"""How long a device works on each phase of its steps, and how long it waits between them.

On a GPU an event where a phase begins and one where the step ends, read once the step is done, so that
nothing waits for them; elsewhere the clock of the host, as work is done when the call returns. What a step
itself wastes between its launches counts as work; a choice of tokens that waited for the host is in the gap.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

# What a step is busy with: pictures, a step with prompt tokens, a step without.
Phase = Literal["encode", "prefill", "decode"]


@dataclass(slots=True)
class Span:
    """One phase of one step."""

    phase: Phase
    seconds: float = 0.0  # 0 until it has been read


class StepClock(Protocol):
    """Told of each step by the runner, in order; steps may overlap."""

    gap_s: float  # between steps, since the start
    phase_s: dict[Phase, float]  # inside steps, since the start

    def begin(self, phase: Phase) -> Span:
        """Note that the first work of a phase is queued now; it ends the one before it in the step."""
        ...

    def end(self) -> None:
        """Note that all work of the step is queued."""
        ...

    def done(self) -> None:
        """Note that a step may be done, so that what it took can be read without waiting."""
        ...

    def rest(self) -> None:
        """Note that no step follows or that one broke off: the time until the next one is no gap."""
        ...


def no_time() -> dict[Phase, float]:
    """Return the seconds of every phase before the first step."""
    return {"encode": 0.0, "prefill": 0.0, "decode": 0.0}


def step_clock(device: torch.device) -> StepClock:
    """Return the clock of a device."""
    return CudaClock() if device.type == "cuda" else HostClock()


class HostClock:
    """Implements StepClock for devices whose calls return when their work is done."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self.phase_s = no_time()
        self._span: Span | None = None  # that runs
        self._begun_s = 0.0
        self._ended_s: float | None = None

    def begin(self, phase: Phase) -> Span:
        """As in StepClock."""
        now = time.perf_counter()
        if self._span is not None:
            self._close(self._span, now)
        elif self._ended_s is not None:
            self.gap_s += now - self._ended_s
        self._span, self._begun_s = Span(phase), now
        return self._span

    def end(self) -> None:
        """As in StepClock."""
        self._ended_s = time.perf_counter()
        if self._span is not None:
            self._close(self._span, self._ended_s)
        self._span = None

    def done(self) -> None:
        """Nothing: a step that has ended is done."""

    def rest(self) -> None:
        """As in StepClock."""
        self._span = self._ended_s = None

    def _close(self, span: Span, now: float) -> None:
        span.seconds = now - self._begun_s
        self.phase_s[span.phase] += span.seconds


@dataclass(frozen=True, slots=True)
class _Step:
    """The spans of a step and the events at which they begin."""

    spans: list[tuple[Span, Any]]
    end: Any


class CudaClock:
    """Implements StepClock with events on the current stream."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self.phase_s = no_time()
        self._spans: list[tuple[Span, Any]] = []  # of the step that is being queued
        self._open: list[_Step] = []  # steps that are not done, the oldest first
        self._last_end: Any = None  # of the last step that is done

    def begin(self, phase: Phase) -> Span:
        """As in StepClock."""
        span = Span(phase)
        self._spans.append((span, _event()))
        return span

    def end(self) -> None:
        """As in StepClock."""
        if self._spans:
            self._open.append(_Step(self._spans, _event()))
            self._spans = []

    def done(self) -> None:
        """As in StepClock."""
        while self._open and self._open[0].end.query():
            step = self._open.pop(0)
            if self._last_end is not None:
                self.gap_s += max(self._last_end.elapsed_time(step.spans[0][1]), 0.0) / 1e3
            ends = [*(begin for _, begin in step.spans[1:]), step.end]
            for (span, begin), end in zip(step.spans, ends, strict=True):
                span.seconds = begin.elapsed_time(end) / 1e3
                self.phase_s[span.phase] += span.seconds
            self._last_end = step.end

    def rest(self) -> None:
        """As in StepClock."""
        self._last_end = None
        self._spans = []
        self._open.clear()


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's stubs
    event.record()
    return event
