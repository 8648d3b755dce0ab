"""What /metrics shows of a server of several processes: sums of their counters, and what each one takes.

Counters live in files that all processes map (the Prometheus client's mode for several processes): whoever is
asked reads them all, and what a process counted stays when it dies. That mode is chosen by the environment
(`FOLDER_VARIABLE`) before the client is imported, hence by `parent.py` for the processes it starts.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class SharedFigures(Collector):
    """Read at scrape time from the files of all processes and from /proc."""

    def __init__(self, folder: Path, pids: Callable[[], Mapping[str, int]]) -> None:
        """`pids`: those that live, by the name that the label `process` has."""
        self._sums = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        yield from self._sums.collect()  # type: ignore[no-untyped-call]
        families: dict[str, Metric] = {}
        for name, pid in self._pids().items():
            for one in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    family.add_sample(sample.name, {**sample.labels, "process": name}, sample.value)
        yield from families.values()
