"""What servers of 1, 2 and 4 processes answer over HTTP: requests a second, and who spends how many cores.

    PYTHONPATH=tests/support python tests/support/server_rates.py [WORDS OF deploy, default: pocket_vl]

All three start side by side, so pages need a number (`engine.num_gpu_blocks`), and are asked in turn. Six
processes ask over 192 kept connections for two seconds a row and read raw bytes: texts of one token, pictures
of 224 pixels that no other request has (4 tokens), streams of 128 tokens. Last one asks alone, over one
connection. A row is printed as soon as it is measured, at the end the table of docs/serving.md.
"""

import asyncio
import multiprocessing
import signal
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from live_server import LiveServer, live_server
from several_processes import fronts_of
from storm.clients import bodies

from deployer.bench.machine import machine
from deployer.table import print_table

PROCESSES = (1, 2, 4)
ASKERS = 6
TEXT = b'{"messages":[{"role":"user","content":"What is %d?"}],"max_tokens":%d,"ignore_eos":true,"stream":%b}'
MADE = 500  # bodies of each process that asks


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked for, and by how many at once."""

    name: str
    tokens: int
    askers: int = ASKERS
    connections: int = 32  # of each that asks
    seconds: float = 2.0

    def bodies(self, asker: int) -> list[bytes]:
        """Return requests; no other asker has their pictures."""
        if self.name == "pictures":
            return bodies(2 * MADE, stream=f"{time.time()} {asker}", output_tokens=self.tokens)[::2]
        streamed = b"true" if self.name == "streams" else b"false"
        return [TEXT % (number, self.tokens, streamed) for number in range(MADE)]


TOGETHER = (
    Load(name="texts", tokens=1),
    Load(name="pictures", tokens=4),
    Load(name="streams", tokens=128),
)
ALONE = Load(name="texts", tokens=1, askers=1, connections=1, seconds=0.5)
LOADS = (*TOGETHER, ALONE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What one load got of one server."""

    a_second: float
    p50_ms: float
    p99_ms: float
    engine_cores: float
    parent_cores: float  # of the server itself where it is one process
    front_cores: float

    def __str__(self) -> str:
        return (
            f"{self.a_second:.0f} a second, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms; "
            f"cores: engine {self.engine_cores:.2f}, server or parent {self.parent_cores:.2f}, "
            f"fronts {self.front_cores:.2f}"
        )


def main(words: Sequence[str]) -> None:
    """Print each rate as soon as it is measured, then the table of all."""
    found: dict[int, list[Rate]] = {}
    with _asking() as askers, _serving(words) as servers:
        for count, server in servers.items():
            found[count] = []
            for place, load in enumerate(LOADS):
                found[count].append(_rate(server, askers[: load.askers], place))
                at_once = load.askers * load.connections
                print(f"{count}: {load.name}, {at_once} at once: {found[count][-1]}", flush=True)
    for name, value in machine().items():
        print(f"{name:10} {value}")
    print()
    _print_whole(found)


def _print_whole(found: dict[int, list[Rate]]) -> None:
    """Print a row a server."""
    heads = ["server.processes", *(_named(load) for load in TOGETHER), "tokens streamed"]
    cores = [f"{who} cores: {', '.join(load.name for load in TOGETHER)}" for who in ("server", "engine")]
    rows = []
    for count, (*rates, alone) in found.items():
        streamed = rates[-1].a_second * TOGETHER[-1].tokens
        server = ", ".join(f"{one.parent_cores + one.front_cores:.1f}" for one in rates)
        engine = ", ".join(f"{one.engine_cores:.1f}" for one in rates)
        each = [f"{one.a_second:,.0f}" for one in rates]
        rows.append([str(count), *each, f"{streamed:,.0f}", server, engine, f"{alone.p50_ms:.1f}"])
    print_table([*heads, *cores, "one text alone, ms"], rows, out=sys.stdout)


def _named(load: Load) -> str:
    return f"{load.name}, {load.tokens} token{'s' if load.tokens > 1 else ''}"


def _rate(server: LiveServer, askers: Sequence[Connection], place: int) -> Rate:
    """Have a load asked, and return its rate, latencies and the cores of each part of the server."""
    fronts = fronts_of(server)
    parts = [[server.engine_pid() or 0], [server.process.pid], fronts]
    before, begun = [_cpu_s(part) for part in parts], time.monotonic()
    for asker in askers:
        asker.send((int(server.url.rpartition(":")[2]), place))
    took = sorted(seconds for asker in askers for seconds in asker.recv())
    seconds = time.monotonic() - begun
    engine, parent, answering = (
        (after - spent) / seconds for after, spent in zip(map(_cpu_s, parts), before, strict=True)
    )
    return Rate(
        a_second=len(took) / seconds,
        p50_ms=took[len(took) // 2] * 1e3,
        p99_ms=took[int(len(took) * 0.99)] * 1e3,
        engine_cores=engine,
        parent_cores=parent,
        front_cores=answering,
    )


@contextmanager
def _serving(words: Sequence[str]) -> Generator[dict[int, LiveServer], None, None]:
    """Have a server of each number of processes meanwhile."""
    with ExitStack() as running, ThreadPoolExecutor() as starts:

        def start(count: int) -> LiveServer:
            several = (f"server.processes={count}", "server.max_requests=1024")
            return running.enter_context(live_server(*words, *several, environment={"OMP_NUM_THREADS": ""}))

        yield dict(zip(PROCESSES, starts.map(start, PROCESSES), strict=True))


@contextmanager
def _asking() -> Generator[list[Connection], None, None]:
    """Have processes meanwhile that ask as they are told; their bodies are made before a server starts."""
    spawn = multiprocessing.get_context("spawn")
    pairs = [spawn.Pipe() for _ in range(ASKERS)]
    processes = [
        spawn.Process(target=_ask_as_told, args=(theirs, number), daemon=True)
        for number, (_, theirs) in enumerate(pairs)
    ]
    for process in processes:
        process.start()
    askers = [ours for ours, _ in pairs]
    for asker in askers:
        assert asker.recv() == "ready"
    try:
        yield askers
    finally:
        for process in processes:
            process.terminate()


def _ask_as_told(told: Connection, number: int) -> None:
    """Ask each load whose place in `LOADS` comes, and hand over the seconds of each request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends who tells us, and we end with that
    made = [load.bodies(number) for load in LOADS]
    told.send("ready")
    while True:
        port, place = told.recv()
        told.send(asyncio.run(_asked(port, LOADS[place], made[place])))


async def _asked(port: int, load: Load, made: Sequence[bytes]) -> list[float]:
    """Ask over kept connections until the time is over; return the seconds of each request."""
    took: list[float] = []
    end = time.monotonic() + load.seconds

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        place = first
        while time.monotonic() < end:
            body, asked_s = made[place % len(made)], time.monotonic()
            place += load.connections
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK" in answer, answer
            if b"chunked" in answer:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            took.append(time.monotonic() - asked_s)
        writer.close()

    await asyncio.gather(*(connection(first) for first in range(load.connections)))
    return took


def _cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU seconds of processes so far, of all their threads."""
    spent = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(words[11]) + int(words[12]) for words in spent) / 100


if __name__ == "__main__":
    main(sys.argv[1:] or ["+model=pocket_vl", "engine.num_gpu_blocks=2048"])
