"""Clients on kept connections that write down how every request ended.

A request ends in one way: `ok`; `refused`, 429 or 503 with Retry-After; `failed`, any other status or an
error event in a stream; `lost`, the connection ended before the answer; `hung`, nothing for PATIENCE_S.
"""

import asyncio
import base64
import json
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import httpx

from deployer.bench.samples import quantile
from deployer.bench.workload import asks

PATH = "/v1/chat/completions"
PATIENCE_S = 600.0  # without a byte

End = Literal["ok", "refused", "failed", "lost", "hung"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one request ended."""

    end: End
    seconds: float
    said: str = ""  # what a request that failed was told


def bodies(
    count: int, *, stream: str, output_tokens: int, words: int = 12, side: int = 224, streamed: int = 1
) -> list[bytes]:
    """Return requests of one unique picture each; of each two, the second or the first (0) is streamed."""
    made = []
    for number, ask in enumerate(asks(count, words=words, size=(side, side), seed=0, stream=stream)):
        assert ask.picture is not None, "a size was asked for"
        url = "data:image/png;base64," + base64.b64encode(ask.picture).decode()
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": ask.text}]
        made.append(
            json.dumps(
                {
                    "messages": [{"role": "user", "content": parts}],
                    "max_tokens": output_tokens,
                    "ignore_eos": True,
                    "stream": number % 2 == streamed,
                }
            ).encode()
        )
    return made


def new_client(url: str, *, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Return a client that keeps its connections; `tls` saves it reading the certificates of the machine."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"content-type": "application/json"},
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=PATIENCE_S,
        verify=tls or True,
    )


async def ask(client: httpx.AsyncClient, body: bytes) -> Outcome:
    """Send one request and read its answer to the end."""
    begin = time.perf_counter()

    def outcome(end: End, said: str = "") -> Outcome:
        return Outcome(end=end, seconds=time.perf_counter() - begin, said=said)

    try:
        reply = await client.post(PATH, content=body)
    except httpx.TimeoutException:
        return outcome("hung")
    except httpx.HTTPError as error:
        return outcome("lost", type(error).__name__)
    if reply.status_code in (429, 503) and "retry-after" in reply.headers:
        return outcome("refused", str(reply.status_code))
    if reply.status_code != 200:
        return outcome("failed", f"{reply.status_code} {reply.text[:160]}")
    if reply.headers["content-type"].startswith("text/event-stream"):
        if '"error":' in reply.text:
            return outcome("failed", reply.text.strip().rpartition("\n")[2])
        if not reply.text.rstrip().endswith("data: [DONE]"):
            return outcome("lost", "a stream without its end")
    return outcome("ok")


async def closed(client: httpx.AsyncClient, asked: Sequence[bytes], clients: int) -> list[Outcome]:
    """Send everything, each of `clients` one request after the other."""
    waiting, outcomes = iter(asked), list[Outcome]()

    async def one() -> None:
        for body in waiting:
            outcomes.append(await ask(client, body))

    await asyncio.gather(*(one() for _ in range(clients)))
    return outcomes


async def arriving(client: httpx.AsyncClient, asked: Sequence[bytes], *, rate: float) -> list[Outcome]:
    """Send `rate` requests a second, whatever became of those before."""
    tasks, begin = [], time.perf_counter()
    for number, body in enumerate(asked):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(client, body)))
    return list(await asyncio.gather(*tasks))


def counted(outcomes: Sequence[Outcome]) -> str:
    """Return the numbers of each end in words."""
    counts = Counter(outcome.end for outcome in outcomes)
    return ", ".join(f"{count} {end}" for end, count in counts.most_common())


def p99_ms(outcomes: Sequence[Outcome]) -> float:
    """Return the 99th percentile of the answered requests' times."""
    return quantile(sorted(o.seconds for o in outcomes if o.end == "ok"), 0.99) * 1e3
