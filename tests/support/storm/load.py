"""Many clients for long: whether each gets its answer, whether memory stays, and who the rate is bound by."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from live_server import LiveServer, live_server

from storm.clients import Outcome, counted, p99_ms
from storm.crowd import Crowd, crowd
from storm.interrupt import interrupt, waited
from storm.watch import Watch

SAMPLE_EVERY_S = 2.0
SAMPLES_A_LINE = 5
# Both fill up in time and would look like a leak: pages take memory as they are first written (on a CPU), and
# the encoder's cache keeps the last pictures. So small that the warm-up fills them.
SMALL_CACHES = ("engine.num_gpu_blocks=384", "vision.cache_bytes=16777216")
WARM_REQUESTS = 640


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

    A line every ten seconds tells what came so far. The figures come in every case: SIGINT or SIGTERM ends
    the load early, as does a server that is gone, and a row says so.
    """
    own = [word for word in SMALL_CACHES if not any(word.split("=")[0] in given for given in storm.words)]
    words = (*storm.words, *own, f"server.max_requests={storm.clients}")
    server_of = live_server(*words, environment={"OMP_NUM_THREADS": ""}, own_session=True)
    with interrupt() as asked, server_of as server:
        print(f"ready at {server.url}; warming up with {WARM_REQUESTS} requests", flush=True)
        load = crowd(server.url, clients=storm.clients, output_tokens=storm.output_tokens, name="load")
        with load as clients:
            watch, warm, outcomes = Watch(server), list[Outcome](), list[Outcome]()
            early = await _warmed(clients, warm, asked) or await _watched(
                storm, clients, watch, outcomes, asked
            )
            costs = _costs(watch, outcomes)
            if early is None:
                early = await clients.end(outcomes, asked)
        stages = [] if early else list(_stages(server))
        code = await asyncio.to_thread(server.end, seconds=40.0)
        return iter(
            (
                *([("ended early", early)] if early else []),
                ("clients", f"{storm.clients}, in {len(clients.processes)} processes"),
                ("minutes", f"{watch.seconds / 60:.1f}"),
                ("requests, a picture each", f"{counted(outcomes)}; before them {counted(warm)}"),
                *costs,
                *stages,
                ("exit after SIGTERM", str(code)),
                *reasons([*warm, *outcomes]),
            )
        )


def reasons(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """Return what some of those were told that did not end well."""
    said = sorted({o.said for o in outcomes if o.end in ("failed", "lost", "hung")})
    return [("", one) for one in said[:5]]


async def _warmed(clients: Crowd, outcomes: list[Outcome], asked: asyncio.Event) -> str | None:
    """Collect how the first requests end; return why it ended early."""
    while len(outcomes) < WARM_REQUESTS:
        if await waited(asked, 0.1):
            return "asked for in the warm-up"
        if clients.failed():
            return "a client's process failed"
        outcomes += clients.take()
    return None


async def _watched(
    storm: Storm, clients: Crowd, watch: Watch, outcomes: list[Outcome], asked: asyncio.Event
) -> str | None:
    """Collect how requests end until it is enough of them and of minutes; return why it ended early."""
    await asyncio.to_thread(watch.look)
    clients.take()
    told = 0
    while len(outcomes) < storm.requests or watch.seconds < 60 * storm.minutes:
        stop = await waited(asked, SAMPLE_EVERY_S)
        outcomes += clients.take()
        if watch.server.process.poll() is not None:
            return f"the server was gone with exit code {watch.server.process.returncode}"
        await asyncio.to_thread(watch.look)
        if stop or clients.failed():
            return "asked for" if stop else "a client's process failed"
        if len(watch.samples) % SAMPLES_A_LINE == 1:
            _tell(watch, outcomes, outcomes[told:])
            told = len(outcomes)
    return None


def _tell(watch: Watch, outcomes: list[Outcome], new: list[Outcome]) -> None:
    last, now = watch.samples[-1 - SAMPLES_A_LINE], watch.samples[-1]
    seconds = now.at_s - last.at_s
    parts = ", ".join(
        f"{part} {memory:.0f} MiB {watch.cores(part, since=last, until=now):.2f} cores"
        for part, memory in now.memory_mib.items()
    )
    elapsed = now.at_s - watch.samples[0].at_s
    p99 = f", p99 {p99_ms(new):.0f} ms" if any(one.end == "ok" for one in new) else ""
    print(
        f"{elapsed:5.0f} s  {counted(outcomes)}; {len(new) / seconds:.1f} a second{p99}; {parts}", flush=True
    )


def _costs(watch: Watch, outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """Return the rate, and what each part took of memory and of the cores."""
    if len(watch.samples) < 2:
        return []
    rows = [("requests a second", f"{len(outcomes) / watch.seconds:.1f}")]
    if any(one.end == "ok" for one in outcomes):
        rows.append(("p99 of a request", f"{p99_ms(outcomes):.0f} ms"))
    return [*rows, *memory_rows(watch, len(outcomes))]


def memory_rows(watch: Watch, num_requests: int) -> list[tuple[str, str]]:
    """Return what each part took of memory and of the cores, over so many requests."""
    rows = []
    first, last = watch.samples[0], watch.samples[-1]
    for part in last.memory_mib:
        cores = watch.cores(part, since=first, until=last)
        each_ms = (last.cpu_s[part] - first.cpu_s.get(part, 0.0)) / max(num_requests, 1) * 1e3
        grown = watch.last_growth_mib(part)
        rows += [
            (f"{part}: memory by quarters of the time", watch.quarters(part)),
            (
                f"{part}: from the third quarter to the last",
                f"{grown:+.1f} MiB in {num_requests / 4:.0f} requests",
            ),
            (f"{part}: CPU", f"{cores:.2f} cores, {each_ms:.2f} ms a request"),
        ]
    return rows


def _stages(server: LiveServer) -> Iterator[tuple[str, str]]:
    """Yield where the time of a mean request went, by the server's own figures."""
    sums: dict[str, dict[str, float]] = {}
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        for what in ("sum", "count"):
            start = f'deployer_stage_seconds_{what}{{stage="'
            if line.startswith(start):
                stage, _, value = line.removeprefix(start).partition('"} ')
                sums.setdefault(stage, {})[what] = float(value)
    means = {stage: found["sum"] / found["count"] * 1e3 for stage, found in sums.items() if found["count"]}
    yield "a mean request, ms", ", ".join(f"{stage} {ms:.0f}" for stage, ms in means.items())
    steps, step_s, gap_s = (
        server.figure(f"deployer_engine_{name}_total") or 0.0
        for name in ("steps", "step_seconds", "gap_seconds")
    )
    yield "engine", f"{steps:.0f} steps, {step_s / max(steps, 1) * 1e3:.1f} ms each, {gap_s:.1f} s of gaps"
