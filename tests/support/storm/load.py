"""What happens under load: many clients for long, and more requests than the server can answer."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from live_server import live_server

from storm.clients import Outcome, arriving, bodies, closed, counted, new_client, p99_ms
from storm.machine import memory_mib

MEMORY_EVERY_S = 2.0
BATCH = 200  # requests made at a time, so that the client's own memory stays small


@dataclass(frozen=True, kw_only=True, slots=True)
class Storm:
    """How much is asked, of which server."""

    words: tuple[str, ...]  # of `deploy`
    clients: int
    requests: int
    minutes: float  # at least so long, with further requests
    output_tokens: int
    admitted: int  # in the overload: `server.max_requests`


async def long_load(storm: Storm) -> Iterator[tuple[str, str]]:
    """Yield (figure, value): `clients` on kept connections, at least `requests`, at least `minutes`.

    On a CPU the pool of pages takes memory as pages are first written: it is made so small that all of them
    are before the watch begins, and what grows then is not the pool.
    """
    pool = f"engine.num_gpu_blocks={max(256, storm.clients)}"
    words = storm.words if any("num_gpu_blocks" in word for word in storm.words) else (*storm.words, pool)
    with live_server(*words, f"server.max_requests={storm.clients}") as server:
        memory: list[float] = []
        async with new_client(server.url) as client:
            await closed(client, _bodies(storm, "warm", 2 * storm.clients), storm.clients)
            watch = asyncio.create_task(_watched(server.process.pid, memory))
            begin, outcomes, turn = time.perf_counter(), list[Outcome](), 0
            while len(outcomes) < storm.requests or time.perf_counter() - begin < 60 * storm.minutes:
                turn += 1
                count = min(max(BATCH, 2 * storm.clients), max(1, storm.requests))
                asked = _bodies(storm, f"load {turn}", count)
                outcomes += await closed(client, asked, storm.clients)
            seconds = time.perf_counter() - begin
            watch.cancel()
        return iter(
            (
                ("clients", str(storm.clients)),
                ("minutes", f"{seconds / 60:.1f}"),
                ("requests, a picture each", counted(outcomes)),
                ("requests a second", f"{len(outcomes) / seconds:.1f}"),
                ("p99 of a request", f"{p99_ms(outcomes):.0f} ms"),
                ("memory by quarters of the time", _quarters(memory)),
                ("exit after SIGTERM", str(server.end())),
                *_reasons(outcomes),
            )
        )


async def overload(storm: Storm, *, times: float = 3.0) -> Iterator[tuple[str, str]]:
    """Yield figures of arrivals at `times` what the server can answer, `storm.admitted` at once.

    The p99 is set beside that of the same server with every place taken and none too many, and beside that of
    one request alone.
    """
    in_flight = storm.admitted
    with live_server(*storm.words, f"server.max_requests={in_flight}") as server:
        async with new_client(server.url) as client:
            await closed(client, _bodies(storm, "warm", 2 * in_flight), in_flight)
            alone = await closed(client, _bodies(storm, "alone", 24), 1)
            begin = time.perf_counter()
            full = await closed(client, _bodies(storm, "full", 12 * in_flight), in_flight)
            rate = len(full) / (time.perf_counter() - begin)
            asked = _bodies(storm, "over", int(times * 12 * in_flight))
            over = await arriving(client, asked, rate=times * rate)
        return iter(
            (
                ("admitted at once", str(in_flight)),
                ("one at a time", f"{counted(alone)}, p99 {p99_ms(alone):.0f} ms"),
                ("full", f"{counted(full)}, {rate:.1f} a second, p99 {p99_ms(full):.0f} ms"),
                (f"{times:g} times that", f"{counted(over)}, p99 {p99_ms(over):.0f} ms"),
                ("p99 against full", f"{p99_ms(over) / p99_ms(full):.2f}x"),
                ("p99 against one at a time", f"{p99_ms(over) / p99_ms(alone):.2f}x"),
                *_reasons(over),
            )
        )


def _bodies(storm: Storm, stream: str, count: int) -> list[bytes]:
    return bodies(count, stream=stream, output_tokens=storm.output_tokens)


def _reasons(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """Return what some of those were told that did not end well."""
    said = sorted({o.said for o in outcomes if o.end in ("failed", "lost", "hung")})
    return [("", one) for one in said[:5]]


async def _watched(pid: int, memory: list[float]) -> None:
    while True:
        memory.append(await asyncio.to_thread(memory_mib, pid))
        await asyncio.sleep(MEMORY_EVERY_S)


def _quarters(memory: list[float]) -> str:
    size = max(1, len(memory) // 4)
    parts = [memory[i * size : (i + 1) * size] for i in range(4)]
    return " ".join(f"{sum(part) / len(part):.0f}" for part in parts if part) + " MiB"
