"""How long a device waited between steps while there was work: the share that a host costs.

On a GPU two events a step, read once the step is done, so that nothing waits for them; elsewhere the clock of
the host, as work is done when the call returns. What a step itself wastes between its launches counts as
work.
"""

import time
from typing import Any, Protocol

import torch


class StepClock(Protocol):
    """Told of each step by the runner, in order; steps may overlap."""

    gap_s: float  # between steps, since the start

    def begin(self) -> None:
        """Note that the first work of a step is queued now; further calls within a step change nothing."""
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


def step_clock(device: torch.device) -> StepClock:
    """Return the clock of a device."""
    return CudaClock() if device.type == "cuda" else HostClock()


class HostClock:
    """Implements StepClock for devices whose calls return when their work is done."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self._is_open = False
        self._ended_s: float | None = None

    def begin(self) -> None:
        """As in StepClock."""
        if not self._is_open and self._ended_s is not None:
            self.gap_s += time.perf_counter() - self._ended_s
        self._is_open = True

    def end(self) -> None:
        """As in StepClock."""
        self._is_open = False
        self._ended_s = time.perf_counter()

    def done(self) -> None:
        """Nothing: a step that has ended is done."""

    def rest(self) -> None:
        """As in StepClock."""
        self._is_open = False
        self._ended_s = None


class CudaClock:
    """Implements StepClock with events on the current stream."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self._begun: Any = None
        self._open: list[tuple[Any, Any]] = []  # begin and end of steps that are not done, the oldest first
        self._last_end: Any = None  # of the last step that is done

    def begin(self) -> None:
        """As in StepClock."""
        if self._begun is None:
            self._begun = _event()

    def end(self) -> None:
        """As in StepClock."""
        if self._begun is not None:
            self._open.append((self._begun, _event()))
            self._begun = None

    def done(self) -> None:
        """As in StepClock."""
        while self._open and self._open[0][1].query():
            begin, end = self._open.pop(0)
            if self._last_end is not None:
                self.gap_s += max(self._last_end.elapsed_time(begin), 0.0) / 1e3
            self._last_end = end

    def rest(self) -> None:
        """As in StepClock."""
        self._begun = self._last_end = None
        self._open.clear()


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's stubs
    event.record()
    return event
