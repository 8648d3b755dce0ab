"""A table of the kernels of one decode step, as torch's profiler sees a replay of its graph."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

_SHOWN = 16  # kernels a table, the slowest first
_NAME_CHARS = 58


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelTime:
    """How long one kernel ran in a step."""

    name: str
    count: int
    us: float


def replay_times(replay: Callable[[], None], *, replays: int = 5) -> list[KernelTime]:
    """Return the kernels of one replay, the slowest first; the mean of several.

    Launches that overlap are counted in full each, waiting included: the sum may exceed the step.
    """
    replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for _ in range(replays):
            replay()
        torch.cuda.synchronize()
    spans = [
        (event.name, event.time_range.elapsed_us())
        for event in profiler.events() or []
        if str(event.device_type).endswith("CUDA")  # the rest is what the driver was asked for
    ]
    return kernel_times(spans, replays=replays)


def kernel_times(spans: list[tuple[str, float]], *, replays: int) -> list[KernelTime]:
    """Return one entry a name of all (name, us) spans, counts and times a replay, the slowest first."""
    times: dict[str, list[float]] = defaultdict(list)
    for name, us in spans:
        times[name].append(us)
    return sorted(
        (
            KernelTime(name=name, count=round(len(each) / replays), us=sum(each) / replays)
            for name, each in times.items()
        ),
        key=lambda kernel: -kernel.us,
    )


def table(kernels: list[KernelTime]) -> str:
    """Return a line a kernel: name, launches, time of all, of one, share of the sum."""
    total = sum(kernel.us for kernel in kernels)
    lines = [f"{'kernel':<{_NAME_CHARS}} {'count':>6} {'us':>9} {'us each':>8} {'share':>6}"]
    rest = kernels[_SHOWN:]
    shown = kernels[:_SHOWN]
    if rest:
        named = f"{len(rest)} others"
        shown.append(KernelTime(name=named, count=sum(k.count for k in rest), us=sum(k.us for k in rest)))
    shown.append(KernelTime(name="sum", count=sum(k.count for k in kernels), us=total))
    lines += [
        f"{kernel.name[:_NAME_CHARS]:<{_NAME_CHARS}} {kernel.count:>6} {kernel.us:>9.1f} "
        f"{kernel.us / max(1, kernel.count):>8.2f} {100 * kernel.us / total if total else 0.0:>5.1f}%"
        for kernel in shown
    ]
    return "\n".join(lines)
