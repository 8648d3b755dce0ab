"""Energy that a GPU takes for work that is replayed for some time: NVML's counter beside the clock.

The counter moves in steps of tens of milliseconds. Only spans between two of its steps are counted, so that
its step is not an error of the result.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from engines.errors import DeviceError
from engines.turbomind.bench.timing import Call, capture

_CLOCK_SM = 1  # nvmlClockType_t of nvml.h 12
_POLL_SECONDS = 5e-4
# A GPU swings around its limit of power at first: one of 700 W drew 590 to 750 in spans of half a second.
_SETTLE_SECONDS = 1.0
_REPLAY_US = 5000  # at least: thousands of short graphs in a row would wait for the host
_MOST_CALLS = 2000  # of a graph


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What one call takes in the long run."""

    us: float
    watts: float
    mhz: float  # of the SMs

    @property
    def millijoules(self) -> float:
        """Energy of one call."""
        return self.watts * self.us / 1000


class EnergyMeter:
    """NVML's counters of the current GPU."""

    def __init__(self) -> None:
        """Open NVML; raises DeviceError where it or the GPU's counter is missing."""
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise DeviceError(f"energy is read through NVML, which is missing here: {error}") from error
        self._gpu = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._gpu))

    def joules(self) -> float:
        """Return the energy since the driver was loaded."""
        energy = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, ctypes.byref(energy))
        return energy.value / 1000

    def sm_mhz(self) -> int:
        """Return the clock of the SMs as it is now."""
        clock = ctypes.c_uint()
        self._call("nvmlDeviceGetClockInfo", self._gpu, _CLOCK_SM, ctypes.byref(clock))
        return clock.value

    def watts_while(self, is_running: Callable[[], bool]) -> tuple[float, float]:
        """Return the mean power between the first and the last step of the counter, and the mean clock.

        NaN where the counter did not step twice.
        """
        last = self.joules()
        steps: list[tuple[float, float]] = []
        clocks: list[int] = []
        while is_running():
            now, energy = time.perf_counter(), self.joules()
            if energy != last:
                steps.append((now, energy))
                clocks.append(self.sm_mhz())
                last = energy
            time.sleep(_POLL_SECONDS)
        return power(steps), sum(clocks) / len(clocks) if clocks else float("nan")

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._nvml, name)(*arguments)
        if status:
            raise DeviceError(f"NVML refuses `{name}`: error {status} of nvmlReturn_t")


def spent(meter: EnergyMeter, calls: Sequence[Call], *, seconds: float) -> Spent:
    """Return what one of the calls takes when they are replayed from a graph for so many seconds."""
    graph, num_calls, replay_ms = _long_graph(calls)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
    for _ in range(int(1000 * _SETTLE_SECONDS / replay_ms)):
        graph.replay()
    events[0].record()
    replays = max(1, int(1000 * seconds / replay_ms))
    for _ in range(replays):
        graph.replay()
    events[1].record()
    events[0].synchronize()
    watts, mhz = meter.watts_while(lambda: not events[1].query())  # type: ignore[no-untyped-call]
    us = events[0].elapsed_time(events[1]) * 1000 / (replays * num_calls)
    return Spent(us=us, watts=watts, mhz=mhz)


def power(steps: Sequence[tuple[float, float]]) -> float:
    """Return the mean power in watts from the first to the last (seconds, joules); NaN of fewer than two."""
    if len(steps) < 2:
        return float("nan")
    (begin, before), (end, after) = steps[0], steps[-1]
    return (after - before) / (end - begin)


def _long_graph(calls: Sequence[Call]) -> tuple[torch.cuda.CUDAGraph, int, float]:
    """Return a graph of calls that is not too short, their number, and its time in ms."""
    graph = capture(calls)
    ms = _replay_ms(graph)
    times = max(1, min(_MOST_CALLS // len(calls), int(_REPLAY_US / 1000 / ms)))
    if times > 1:
        graph = capture(list(calls) * times)
        ms = _replay_ms(graph)
    return graph, len(calls) * times, ms


def _replay_ms(graph: torch.cuda.CUDAGraph) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    graph.replay()
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
