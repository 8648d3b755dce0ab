"""One measured request on token ids, what many of them amount to, and what their steps cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from deployer.bench.samples import Sample, quantile
from engines.stats import Stats

Path = Literal["engine", "http"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSample:
    """One request; times are seconds of `time.perf_counter`."""

    start_s: float
    arrivals: tuple[tuple[float, int], ...]  # when so many tokens came
    prompt_tokens: int
    image_tokens: int
    cached_tokens: int

    @property
    def first_s(self) -> float:
        """When its first token came."""
        return self.arrivals[0][0]

    @property
    def last_s(self) -> float:
        """When its last token came."""
        return self.arrivals[-1][0]

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token."""
        return self.first_s - self.start_s

    @property
    def token_s(self) -> float:
        """Mean seconds between tokens after the first."""
        return (self.last_s - self.first_s) / max(1, self.output_tokens - 1)

    @property
    def output_tokens(self) -> int:
        """Tokens that came."""
        return sum(count for _, count in self.arrivals)

    def without_arrivals(self) -> Sample:
        """Return the same, of all arrivals the first and the last."""
        return Sample(
            start_s=self.start_s,
            first_s=self.first_s,
            last_s=self.last_s,
            prompt_tokens=self.prompt_tokens,
            image_tokens=self.image_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What an engine and its server have spent so far."""

    steps: int
    step_s: float
    wait_s: float
    gap_s: float
    proposed_tokens: int
    accepted_tokens: int
    server_cpu_s: float | None  # of the server's processes; None: there is no server

    @classmethod
    def of(cls, stats: Stats) -> "Spent":
        """Return what an engine alone has spent."""
        return cls(
            steps=stats.steps,
            step_s=stats.step_s,
            wait_s=stats.wait_s,
            gap_s=stats.gap_s,
            proposed_tokens=stats.proposed_tokens,
            accepted_tokens=stats.accepted_tokens,
            server_cpu_s=None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    """What one load made of the engine at one concurrency."""

    path: Path = "engine"  # reports of before `bench.through` have engines alone
    load: str
    concurrency: int
    requests: int
    prompt_tokens: float  # mean, image tokens included
    image_tokens: float
    cached_tokens: float
    output_tokens: float
    seconds: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    token_p50_ms: float  # mean time between the tokens of a request, after its first
    token_p99_ms: float
    prompt_tokens_per_s: float  # until the last first token
    decode_tokens_per_s: float | None  # while all requests decode; None: there is no such time
    output_tokens_per_s: float
    requests_per_s: float
    steps: int | None  # None, as the next five: the server at `bench.url` does not say
    step_ms: float | None  # mean time of the engine's loop for a step
    host_ms: float | None  # of it, the host's own work
    gap_share: float | None  # of `seconds`, how long the device waited between steps
    proposed_tokens: int | None = (
        None  # from the text itself; None also in reports of before they were counted
    )
    accepted_tokens: int | None = None  # of these
    # CPU seconds a second of the server's processes; None: there are none, or they are not known.
    server_cores: float | None = None
    client_cores: float | None = None  # of the busiest process that asks; None: the engine alone


def token_row(
    samples: Sequence[TokenSample],
    seconds: float,
    *,
    load: str,
    concurrency: int,
    path: Path,
    before: Spent | None,
    after: Spent | None,
    client_cores: float | None,
) -> TokenRow:
    """Return the row that these samples make, and what the engine and the server spent meanwhile."""
    count = len(samples)
    ttft = sorted((one.first_s - one.start_s) * 1e3 for one in samples)
    token = sorted(one.token_s * 1e3 for one in samples)
    started, read = min(one.start_s for one in samples), max(one.first_s for one in samples)
    return TokenRow(
        path=path,
        load=load,
        concurrency=concurrency,
        requests=count,
        prompt_tokens=sum(one.prompt_tokens for one in samples) / count,
        image_tokens=sum(one.image_tokens for one in samples) / count,
        cached_tokens=sum(one.cached_tokens for one in samples) / count,
        output_tokens=sum(one.output_tokens for one in samples) / count,
        seconds=seconds,
        ttft_p50_ms=quantile(ttft, 0.5),
        ttft_p99_ms=quantile(ttft, 0.99),
        token_p50_ms=quantile(token, 0.5),
        token_p99_ms=quantile(token, 0.99),
        prompt_tokens_per_s=sum(one.prompt_tokens for one in samples) / (read - started),
        decode_tokens_per_s=decode_rate(samples, concurrency=concurrency),
        output_tokens_per_s=sum(one.output_tokens for one in samples) / seconds,
        requests_per_s=count / seconds,
        client_cores=client_cores,
        **_spent_between(before, after, seconds),
    )


class _SpentFigures(TypedDict):
    steps: int | None
    step_ms: float | None
    host_ms: float | None
    gap_share: float | None
    proposed_tokens: int | None
    accepted_tokens: int | None
    server_cores: float | None


def _spent_between(before: Spent | None, after: Spent | None, seconds: float) -> _SpentFigures:
    if before is None or after is None:
        return {
            "steps": None,
            "step_ms": None,
            "host_ms": None,
            "gap_share": None,
            "proposed_tokens": None,
            "accepted_tokens": None,
            "server_cores": None,
        }
    steps, step_s = after.steps - before.steps, after.step_s - before.step_s
    host_s = step_s - (after.wait_s - before.wait_s)
    cores = None
    if before.server_cpu_s is not None and after.server_cpu_s is not None:
        cores = (after.server_cpu_s - before.server_cpu_s) / seconds
    return {
        "steps": steps,
        "step_ms": step_s * 1e3 / max(steps, 1),
        "host_ms": host_s * 1e3 / max(steps, 1),
        "gap_share": (after.gap_s - before.gap_s) / seconds,
        "proposed_tokens": after.proposed_tokens - before.proposed_tokens,
        "accepted_tokens": after.accepted_tokens - before.accepted_tokens,
        "server_cores": cores,
    }


def decode_rate(samples: Sequence[TokenSample], *, concurrency: int) -> float | None:
    """Return tokens a second from the last first token to the first last one; None where no such time is.

    The sum of what each request gets in that time, from its own first token there to its last. The tokens of
    a step come one after another: counted together, most of the last step's would lie behind the end.
    """
    begin, end = max(one.first_s for one in samples), min(one.last_s for one in samples)
    if len(samples) > concurrency or end <= begin:
        return None
    inside = [[arrival for arrival in one.arrivals if begin <= arrival[0] <= end] for one in samples]
    if any(len(arrivals) < 2 for arrivals in inside):
        return None
    return sum(
        sum(count for _, count in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0]) for arrivals in inside
    )
