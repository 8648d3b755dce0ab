"""More requests than the server can answer."""

import time
from collections.abc import Iterator

from live_server import live_server

from storm.clients import arriving, bodies, closed, counted, new_client, p99_ms
from storm.load import Storm, reasons


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
                *reasons(over),
            )
        )


def _bodies(storm: Storm, stream: str, count: int) -> list[bytes]:
    return bodies(count, stream=stream, output_tokens=storm.output_tokens)
