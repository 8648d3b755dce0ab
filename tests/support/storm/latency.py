"""More requests than the server can answer, those let in being to keep a latency (`server.target_*_ms`)."""

import time
from collections.abc import Iterator

import httpx
from live_server import LiveServer, live_server

from storm.clients import arriving, bodies, closed, counted, new_client, p99_ms
from storm.load import Storm, reasons

TIMES = 2.0  # of what a request alone takes: the target
SETTLE_S = 60.0


async def latency(storm: Storm, *, times: float = 3.0) -> Iterator[tuple[str, str]]:
    """Yield figures of arrivals at `times` what the server can answer, at targets of twice a lone request's.

    A first server tells what a request alone takes and how many a second it can answer. A second one gets the
    targets; it is watched once it has had time to find its places.
    """
    with live_server(*storm.words, f"server.max_requests={storm.admitted}") as server:
        async with new_client(server.url) as client:
            await closed(client, _bodies(storm, "warm", 2 * storm.admitted), storm.admitted)
            before = _sums(server)
            alone = await closed(client, _bodies(storm, "alone", 40), 1)
            means_ms = _means_ms(before, _sums(server))
            begin = time.perf_counter()
            full = await closed(client, _bodies(storm, "full", 12 * storm.admitted), storm.admitted)
            rate = times * len(full) / (time.perf_counter() - begin)
    targets = [f"server.target_{name}_ms={TIMES * mean:.4g}" for name, mean in means_ms.items()]
    with live_server(*storm.words, *targets) as server:
        async with new_client(server.url) as client:
            await arriving(client, _bodies(storm, "settle", int(rate * SETTLE_S)), rate=rate)
            over = await arriving(client, _bodies(storm, "over", int(36 * storm.admitted)), rate=rate)
        places = server.figure("deployer_requests_allowed")
    return iter(
        (
            ("one at a time", f"{counted(alone)}, p99 {p99_ms(alone):.0f} ms"),
            ("targets", ", ".join(targets)),
            (f"{rate:.0f} a second", f"{counted(over)}, p99 {p99_ms(over):.0f} ms"),
            ("places found", f"{places:g}" if places else "none"),
            ("p99 against one at a time", f"{p99_ms(over) / p99_ms(alone):.2f}x"),
            *reasons(over),
        )
    )


def _sums(server: LiveServer) -> dict[str, float]:
    names = ("time_to_first_token", "time_per_output_token")
    wanted = [f"deployer_{name}_seconds_{part}" for name in names for part in ("sum", "count")]
    found = {}
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        name, _, value = line.partition(" ")
        if name in wanted:
            found[name] = float(value)
    return found


def _means_ms(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    def mean_ms(name: str) -> float:
        spent, count = (after[f"{name}_{part}"] - before[f"{name}_{part}"] for part in ("sum", "count"))
        return spent / count * 1e3

    return {
        "ttft": mean_ms("deployer_time_to_first_token_seconds"),
        "token": mean_ms("deployer_time_per_output_token_seconds"),
    }


def _bodies(storm: Storm, stream: str, count: int) -> list[bytes]:
    return bodies(count, stream=stream, output_tokens=storm.output_tokens)
