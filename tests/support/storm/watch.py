"""A running server seen from outside, sample by sample: memory and CPU time of its processes."""

import asyncio
import time
from dataclasses import dataclass, field

from live_server import LiveServer

from storm.machine import cpu_s, family, memory_mib

HELD = ("deployer_sequences_running", "deployer_sequences_waiting", "deployer_kv_pages_used")


async def held_at_rest(server: LiveServer, *, patience_s: float) -> str:
    """Return what the engine still holds for requests, once it is nothing or the patience is over."""
    begin = time.perf_counter()
    while any([await asyncio.to_thread(server.figure, name) for name in HELD]):
        if time.perf_counter() - begin > patience_s:
            break
        await asyncio.sleep(0.05)
    left = [f"{name.removeprefix('deployer_')} {server.figure(name) or 0:.0f}" for name in HELD]
    return f"{', '.join(left)} after {time.perf_counter() - begin:.1f} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What the processes had taken at one moment."""

    at_s: float  # time.perf_counter()
    memory_mib: dict[str, float]  # of each part
    cpu_s: dict[str, float]


@dataclass
class Watch:
    """Samples of the server's own process, of its engine with all ranks, and of other helpers together."""

    server: LiveServer
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> Sample:
        """Take a sample."""
        own, engine = self.server.process.pid, self.server.engine_pid()
        parts = {"server": [own], "engine": [] if engine is None else family(engine)}
        known = {pid for pids in parts.values() for pid in pids}
        others = [pid for pid in family(own) if pid not in known]
        if others:
            parts["others"] = others
        sample = Sample(
            at_s=time.perf_counter(),
            memory_mib={name: memory_mib(pids) for name, pids in parts.items()},
            cpu_s={name: cpu_s(pids) for name, pids in parts.items()},
        )
        self.samples.append(sample)
        return sample

    def cores(self, part: str, *, since: Sample, until: Sample) -> float:
        """Return how many cores a part kept busy between two samples."""
        spent = until.cpu_s.get(part, 0.0) - since.cpu_s.get(part, 0.0)
        return spent / max(until.at_s - since.at_s, 1e-9)

    @property
    def seconds(self) -> float:
        """Return the time from the first sample to the last."""
        return self.samples[-1].at_s - self.samples[0].at_s if self.samples else 0.0

    def quarters(self, part: str) -> str:
        """Return the mean memory in each quarter of the time."""
        return " ".join(f"{mean:.0f}" for mean in self._quarter_means_mib(part)) + " MiB"

    def last_growth_mib(self, part: str) -> float:
        """Return how much more memory the last quarter had than the one before."""
        means = self._quarter_means_mib(part)
        return means[-1] - means[-2] if len(means) > 1 else 0.0

    def _quarter_means_mib(self, part: str) -> list[float]:
        memory = [sample.memory_mib.get(part, 0.0) for sample in self.samples]
        size = max(1, len(memory) // 4)
        return [sum(found) / len(found) for i in range(4) if (found := memory[i * size : (i + 1) * size])]
