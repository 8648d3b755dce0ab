"""What the device spends on encoding, prefill and decode, and how near that is to its physical limit."""

import time
from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from deployer.plan.phase_limit import phase_limit_s
from deployer.serve.pricing import Pricing
from engines.stats import PhaseFigures, Stats

LABELS = ("phase",)
WINDOW_S = 5.0  # the percentage is of at least so long, where somebody looked that long ago
Totals = dict[str, tuple[float, float]]  # seconds and least seconds of each phase


class PhaseMetrics:
    """The phases of one engine, read at scrape time."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.pricing: Pricing | None = (
            None  # None: no option of conf/hardware describes the device, or not yet
        )
        self._clock = clock
        self._seen: deque[tuple[float, Totals]] = deque()  # the oldest first

    def figures(self, stats: Stats) -> Iterator[Metric]:
        """Yield the metrics of now."""
        seconds = CounterMetricFamily("deployer_phase_seconds", "Time of the device's work", labels=LABELS)
        seconds.add_metric(["encode"], stats.encode_s)
        steps = CounterMetricFamily("deployer_phase_steps", "Steps since the engine started", labels=LABELS)
        rows = CounterMetricFamily("deployer_phase_rows", "Tokens that went through them", labels=LABELS)
        for done in stats.phases:
            seconds.add_metric([done.phase], done.seconds)
            steps.add_metric([done.phase], done.steps)
            rows.add_metric([done.phase], done.rows)
        yield from (seconds, steps, rows)
        if self.pricing is not None:
            yield from self._limits(self.pricing, stats.phases)

    def _limits(self, pricing: Pricing, phases: tuple[PhaseFigures, ...]) -> Iterator[Metric]:
        totals: Totals = {
            done.phase: (done.seconds, phase_limit_s(pricing.work, pricing.limits, done)) for done in phases
        }
        least = CounterMetricFamily(
            "deployer_phase_limit_seconds",
            "Time that the same work takes at the device's limit",
            labels=LABELS,
        )
        for name, (_, limit_s) in totals.items():
            least.add_metric([name], limit_s)
        percent = GaugeMetricFamily(
            "deployer_phase_limit_percent", "Of the device's limit, reached since some seconds", labels=LABELS
        )
        for phase, (spent_s, limit_s) in self._since(totals).items():
            if spent_s > 0:  # else the phase does not run
                percent.add_metric([phase], 100 * limit_s / spent_s)
        yield from (least, percent)

    def _since(self, totals: Totals) -> Totals:
        """Return what was added since somebody looked `WINDOW_S` ago, or less long where nobody did."""
        now = self._clock()
        if self._seen and any(totals[phase][0] < before[0] for phase, before in self._seen[-1][1].items()):
            self._seen.clear()  # the engine was restarted and counts anew
        while len(self._seen) > 1 and now - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()
        first = self._seen[0][1] if self._seen else dict.fromkeys(totals, (0.0, 0.0))
        self._seen.append((now, totals))
        return {
            phase: (spent - first[phase][0], least - first[phase][1])
            for phase, (spent, least) in totals.items()
        }
