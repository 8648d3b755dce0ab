"""What happens when something breaks while requests run; each fault starts a server of its own.

`kill -9` of the engine, of a worker that decodes pictures and of clients half-way; no room on the disks; a
wall clock that jumps; SIGTERM under load.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import httpx
from live_server import LiveServer, live_server

from storm.clients import Outcome, ask, bodies, closed, counted, new_client
from storm.load import Storm
from storm.machine import with_word
from storm.watch import held_at_rest

IN_FLIGHT = 32
Figures = Iterator[tuple[str, str]]


async def engine_killed(storm: Storm) -> Figures:
    """Yield what requests got whose engine was killed, and when the next one was answered."""
    with live_server(*storm.words) as server:

        async def fault() -> None:
            engine = server.engine_pid()
            assert engine is not None, "an engine works for this server"
            os.kill(engine, signal.SIGKILL)

        outcomes, at = await _struck(server, storm, fault)
        back = await _until_answered(server, at)
        return iter((("in flight", counted(outcomes)), *_told(outcomes), ("answers again after", back)))


async def worker_killed(storm: Storm) -> Figures:
    """Yield what requests got while both workers that decode pictures were killed.

    The pictures are large, so that the workers are still busy when the figure that says so has come.
    """
    words = ("vision.preprocess_workers=2", "vision.max_tiles=1")
    with live_server(*storm.words, *words) as server:

        async def fault() -> None:
            workers = with_word(server.process.pid, b"deployer.prompt.pixel_worker")
            assert len(workers) == 2, "both work for this server"
            for worker in workers:
                os.kill(worker, signal.SIGKILL)

        outcomes, at = await _struck(server, storm, fault, when="deployer_preprocess_busy", side=1024)
        back = await _until_answered(server, at)
        restarts = server.figure("deployer_preprocess_restarts_total")
        return iter(
            (
                ("in flight", counted(outcomes)),
                *_told(outcomes),
                ("workers started anew", f"{restarts or 0:.0f}"),
                ("answers again after", back),
            )
        )


async def clients_gone(storm: Storm) -> Figures:
    """Yield what the engine still held after clients hung up in the middle of their streams."""
    with live_server(*storm.words) as server:
        asked = bodies(2 * IN_FLIGHT, stream="gone", output_tokens=400)[1::2]  # the streamed ones
        await asyncio.gather(*(_hangs_up(server.url, body) for body in asked))
        held = await held_at_rest(server, patience_s=30.0)
        return iter((("hung up", f"{len(asked)} streams after their first bytes"), ("held then", held)))


async def disk_full(storm: Storm) -> Figures:
    """Yield what requests got that found no room for their pictures; mounts small file systems as root."""
    if os.geteuid() != 0:
        return iter((("not run", "needs root, to put small file systems in place"),))
    small = "mount -t tmpfs -o size=64k tmpfs /dev/shm && mount -t tmpfs -o size=1m tmpfs /tmp"
    shell = ("unshare", "--mount", "sh", "-c", f'{small} && exec "$0" "$@"')
    with live_server(*storm.words, before=shell) as server:
        async with new_client(server.url) as client:
            outcomes = await closed(client, _bodies(storm, "disk"), IN_FLIGHT)
            text = await client.post("/v1/chat/completions", content=_text(4))
        health = httpx.get(f"{server.url}/health").status_code
        return iter(
            (
                ("pictures", counted(outcomes)),
                *_told(outcomes),
                ("a text meanwhile", str(text.status_code)),
                ("health", str(health)),
            )
        )


async def clock_jumped(storm: Storm) -> Figures:
    """Yield what requests got while `time.time` went an hour ahead and a day back."""
    with tempfile.TemporaryDirectory() as folder:
        offset = Path(folder) / "offset"
        offset.write_text("0")
        before = (sys.executable, "-m", "storm.jumping_clock", str(offset))
        with live_server(*storm.words, command=before) as server:
            outcomes: list[Outcome] = []
            for seconds in ("3600", "-86400", "0"):

                async def fault(seconds: str = seconds) -> None:
                    offset.write_text(seconds)

                outcomes += (await _struck(server, storm, fault))[0]
            return iter((("in flight over three jumps", counted(outcomes)), *_told(outcomes)))


async def drained(storm: Storm, *, drain_s: int = 30) -> Figures:
    """Yield what requests got that were running when SIGTERM came."""
    with live_server(*storm.words, f"server.drain_s={drain_s}") as server:

        async def fault() -> None:
            server.process.send_signal(signal.SIGTERM)

        outcomes, at = await _struck(server, storm, fault)
        code = await asyncio.to_thread(server.process.wait, drain_s + 20)
        took = time.perf_counter() - at
        return iter(
            (("in flight", counted(outcomes)), *_told(outcomes), ("exit", f"{code} after {took:.1f} s"))
        )


async def _struck(
    server: LiveServer,
    storm: Storm,
    fault: Callable[[], Coroutine[None, None, None]],
    *,
    when: str = "deployer_sequences_running",
    side: int = 224,
) -> tuple[list[Outcome], float]:
    """Return what requests got in whose middle a fault came, and when: as soon as a figure is above 0."""
    async with new_client(server.url) as client:
        asked = _bodies(storm, f"fault {time.perf_counter()}", side=side)
        tasks = [asyncio.create_task(ask(client, body)) for body in asked]
        while not (await asyncio.to_thread(server.figure, when) or 0) > 0:
            assert not all(task.done() for task in tasks), f"all was answered before {when} was seen above 0"
            await asyncio.sleep(0.02)
        at = time.perf_counter()
        await fault()
        return list(await asyncio.gather(*tasks)), at


async def _until_answered(server: LiveServer, since: float) -> str:
    """Return how long after `since` a request was answered again."""
    async with new_client(server.url) as client:
        while True:
            if (await client.post("/v1/chat/completions", content=_text(1))).status_code == 200:
                return f"{time.perf_counter() - since:.1f} s"
            await asyncio.sleep(0.1)


async def _hangs_up(url: str, body: bytes) -> None:
    async with (
        new_client(url) as client,
        client.stream("POST", "/v1/chat/completions", content=body) as reply,
    ):
        async for _ in reply.aiter_raw():
            return


def _bodies(storm: Storm, stream: str, *, side: int = 224) -> list[bytes]:
    return bodies(IN_FLIGHT, stream=stream, output_tokens=storm.output_tokens, side=side)


def _text(tokens: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"Hello"}],"max_tokens":%d}' % tokens


def _told(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """Return what those were told that were not answered."""
    return [("told", one) for one in sorted({o.said for o in outcomes if o.said})[:4]]
