"""Many clients in processes of their own: to make requests and to read answers takes no time of who looks on.

Each client keeps one connection in a pool of its own: in a shared pool of a thousand connections httpx walks
through all of them for every request, which takes it longer than any server.
"""

import asyncio
import multiprocessing
import os
import queue
import signal
import ssl
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from storm.clients import Outcome, ask, bodies, new_client
from storm.interrupt import SIGNALS, waited

REPORT_EVERY_S = 0.5
CORES_A_PROCESS = 4  # of the machine: the rest is the server's
LAST_ANSWERS_S = 620.0  # longer than the patience of a client


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one process of the crowd does."""

    url: str
    name: str  # no two parts ask the same
    clients: int
    output_tokens: int


@dataclass
class Crowd:
    """Clients at work, each one request after the other, until `end`."""

    stop: Event
    reports: "Queue[list[Outcome]]"
    processes: list[multiprocessing.process.BaseProcess]

    def take(self) -> list[Outcome]:
        """Return how requests ended since the last time."""
        new: list[Outcome] = []
        while True:
            try:
                new += self.reports.get_nowait()
            except queue.Empty:
                return new

    def failed(self) -> bool:
        """Tell whether a process ended by itself."""
        return not all(process.is_alive() for process in self.processes)

    async def end(self, outcomes: list[Outcome], asked: asyncio.Event) -> str | None:
        """Let each client read its last answer and add what `take` has not; return why it ended early."""
        self.stop.set()
        deadline = time.perf_counter() + LAST_ANSWERS_S
        while any(process.is_alive() for process in self.processes):
            outcomes += self.take()  # a process does not end before its reports are read
            if await waited(asked, 0.05):
                return "asked for before the last answers"
            if time.perf_counter() > deadline:
                return "a client outlived its own patience"
        outcomes += self.take()
        if any(process.exitcode != 0 for process in self.processes):
            return "a client's process failed"
        return None


@contextmanager
def crowd(url: str, *, clients: int, output_tokens: int, name: str) -> Generator[Crowd, None, None]:
    """Start `clients` clients; they are gone at the end, whatever they did."""
    spawn = multiprocessing.get_context("spawn")
    count = min(clients, max(1, len(os.sched_getaffinity(0)) // CORES_A_PROCESS))
    stop, reports = spawn.Event(), spawn.Queue()
    parts = [
        Part(
            url=url,
            name=f"{name} {number}",
            clients=clients // count + (number < clients % count),
            output_tokens=output_tokens,
        )
        for number in range(count)
    ]
    processes: list[multiprocessing.process.BaseProcess] = [
        spawn.Process(target=_run, args=(part, stop, reports), daemon=True) for part in parts
    ]
    for process in processes:
        process.start()
    try:
        yield Crowd(stop=stop, reports=reports, processes=processes)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(part: Part, stop: Event, reports: "Queue[list[Outcome]]") -> None:
    for number in SIGNALS:  # a terminal and `timeout` send them to the whole group; who started us ends us
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_clients(part, stop, reports))


async def _clients(part: Part, stop: Event, reports: "Queue[list[Outcome]]") -> None:
    outcomes: list[Outcome] = []
    tls = ssl.create_default_context()

    async def client(number: int) -> None:
        turn = 0
        async with new_client(part.url, tls=tls) as connection:
            while not stop.is_set():
                turn += 1
                stream = f"{part.name} {number} {turn}"
                (body,) = bodies(1, stream=stream, output_tokens=part.output_tokens, streamed=turn % 2)
                outcomes.append(await ask(connection, body))

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            reports.put(outcomes.copy())
            outcomes.clear()

    reporting = asyncio.create_task(report())
    await asyncio.gather(*(client(number) for number in range(part.clients)))
    reporting.cancel()
    reports.put(outcomes)
