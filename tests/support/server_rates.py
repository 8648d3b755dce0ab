"""What servers of 1, 2 and 4 processes answer over HTTP: requests a second, and who spends how many cores.

    PYTHONPATH=tests/support python tests/support/server_rates.py [WORDS OF deploy, default +model=pocket_vl]

Six processes ask over 192 kept connections for two seconds a row and read raw bytes: texts of one token,
pictures of 224 pixels that no other request has (4 tokens), streams of 128 tokens. Last one asks alone.
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from live_server import LiveServer, live_server
from several_processes import fronts_of
from storm.clients import bodies

from deployer.bench.machine import machine
from deployer.table import print_table

PROCESSES = (1, 2, 4)
SECONDS = 2.0
TEXT = b'{"messages":[{"role":"user","content":"What is %d?"}],"max_tokens":%d,"ignore_eos":true,"stream":%b}'
MADE = 500  # bodies of each process that asks


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked for, and by how many at once."""

    name: str
    tokens: int
    askers: int = 6
    connections: int = 32  # of each that asks

    def bodies(self, asker: int) -> list[bytes]:
        """Return requests; no other asker has their pictures."""
        if self.name == "pictures":
            return bodies(2 * MADE, stream=f"{time.time()} {asker}", output_tokens=self.tokens)[::2]
        streamed = b"true" if self.name == "streams" else b"false"
        return [TEXT % (number, self.tokens, streamed) for number in range(MADE)]


LOADS = (
    Load(name="texts", tokens=1),
    Load(name="pictures", tokens=4),
    Load(name="streams", tokens=128),
    Load(name="texts", tokens=1, askers=1, connections=1),
)
HEADS = (
    "processes",
    "asked for",
    "at once",
    "a second",
    "p50 ms",
    "p99 ms",
    "engine",
    "parent or server",
    "fronts",
)


def main(words: Sequence[str]) -> None:
    """Print a row for each load as soon as it is measured, then the table of all."""
    rows = []
    for count in PROCESSES:
        several = (f"server.processes={count}", "server.max_stored_bytes=0", "server.max_requests=1024")
        with live_server(*words, *several, environment={"OMP_NUM_THREADS": ""}) as server:
            for load in LOADS:
                rows.append([str(count), load.name, str(load.askers * load.connections), *_row(server, load)])
                print(*rows[-1], flush=True)
            assert server.end(seconds=40.0) == 0, "it drains"
    for name, value in machine().items():
        print(f"{name:10} {value}")
    print()
    print_table(HEADS, rows, out=sys.stdout)


def _row(server: LiveServer, load: Load) -> list[str]:
    """Ask, and return rate, latencies and the cores of each part of the server."""
    spawn = multiprocessing.get_context("spawn")
    begin, results = spawn.Barrier(load.askers + 1), spawn.Queue()
    port = int(server.url.rpartition(":")[2])
    askers = [
        spawn.Process(target=_ask, args=(port, load, number, begin, results)) for number in range(load.askers)
    ]
    for asker in askers:
        asker.start()
    begin.wait()
    fronts = fronts_of(server)
    parts = [[server.engine_pid() or 0], [server.process.pid], fronts]
    before, begun = [_cpu_s(part) for part in parts], time.monotonic()
    took = sorted(one for _ in askers for one in results.get())
    seconds = time.monotonic() - begun
    cores = [(after - spent) / seconds for after, spent in zip(map(_cpu_s, parts), before, strict=True)]
    for asker in askers:
        asker.join()
    middle, late = took[len(took) // 2], took[int(len(took) * 0.99)]
    figures = (f"{len(took) / seconds:.0f}", f"{middle * 1e3:.1f}", f"{late * 1e3:.1f}")
    return [*figures, *(f"{one:.2f}" for one in cores)]


def _ask(port: int, load: Load, number: int, begin: Barrier, results: "Queue[list[float]]") -> None:
    """Ask over kept connections until the time is over; hands over the seconds of each request."""
    made, took = load.bodies(number), list[float]()
    begin.wait()
    end = time.monotonic() + SECONDS

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

    async def all_of_them() -> None:
        await asyncio.gather(*(connection(first) for first in range(load.connections)))

    asyncio.run(all_of_them())
    results.put(took)


def _cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU seconds of processes so far, of all their threads."""
    spent = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(words[11]) + int(words[12]) for words in spent) / 100


if __name__ == "__main__":
    main(sys.argv[1:] or ["+model=pocket_vl"])
