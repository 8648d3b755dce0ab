"""One measured request, and what many of them amount to."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One request; times are seconds of `time.perf_counter`."""

    start_s: float
    first_s: float  # first token
    last_s: float  # last token
    prompt_tokens: int
    image_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token."""
        return self.first_s - self.start_s

    @property
    def token_s(self) -> float:
        """Mean seconds between tokens after the first."""
        return (self.last_s - self.first_s) / max(1, self.output_tokens - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One row of the table."""

    path: str  # engine: alone; http: through a server
    image: bool
    concurrency: int
    requests: int
    prompt_tokens: float  # mean, image tokens included
    image_tokens: float
    cached_tokens: float
    output_tokens: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    token_p50_ms: float
    token_p99_ms: float
    request_ms: float  # mean time of a request
    output_tokens_per_s: float  # over all requests of the row
    requests_per_s: float


async def closed_loop(
    asked: Sequence[T], concurrency: int, ask: Callable[[T], Awaitable[S]]
) -> tuple[list[S], float]:
    """Ask everything, `concurrency` at a time, and return the samples and how many seconds it took."""
    waiting = iter(asked)
    samples: list[S] = []

    async def worker() -> None:
        for one in waiting:
            samples.append(await ask(one))

    start_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return samples, time.perf_counter() - start_s


def figures(
    samples: Sequence[Sample], seconds: float, *, path: str, image: bool, concurrency: int
) -> Figures:
    """Return the row that these samples make."""
    ttft = sorted(sample.ttft_s * 1e3 for sample in samples)
    token = sorted(sample.token_s * 1e3 for sample in samples)
    return Figures(
        path=path,
        image=image,
        concurrency=concurrency,
        requests=len(samples),
        prompt_tokens=_mean(sample.prompt_tokens for sample in samples),
        image_tokens=_mean(sample.image_tokens for sample in samples),
        cached_tokens=_mean(sample.cached_tokens for sample in samples),
        output_tokens=_mean(sample.output_tokens for sample in samples),
        ttft_p50_ms=quantile(ttft, 0.5),
        ttft_p99_ms=quantile(ttft, 0.99),
        token_p50_ms=quantile(token, 0.5),
        token_p99_ms=quantile(token, 0.99),
        request_ms=sum(sample.last_s - sample.start_s for sample in samples) * 1e3 / len(samples),
        output_tokens_per_s=sum(sample.output_tokens for sample in samples) / seconds,
        requests_per_s=len(samples) / seconds,
    )


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed, linear between neighbours."""
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)


def _mean(values: Iterator[int]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
