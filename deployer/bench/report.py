"""The table of a benchmark, and the same as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

import msgspec

from deployer.bench.options import BenchOptions
from deployer.bench.samples import Figures
from deployer.table import print_about, print_table
from engines.messages import Ready

HEADS = (
    "path", "image", "concurrent", "prompt tok", "output tok", "ttft p50 ms", "p99", "token p50 ms", "p99",
    "tok/s", "req/s",
)  # fmt: skip
OVERHEAD_HEADS = ("server overhead", "image", "concurrent", "ttft p50 ms", "token p50 ms", "request ms")


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """What the server adds to the engine for the same work: HTTP, pictures, tokenizing and text."""

    image: bool
    concurrency: int
    ttft_p50_ms: float
    token_p50_ms: float
    request_ms: float  # mean time of a request


def overheads(rows: Sequence[Figures]) -> list[Overhead]:
    """Return HTTP minus engine for every pair of rows with the same work."""
    alone = {(row.image, row.concurrency): row for row in rows if row.path == "engine"}
    return [
        Overhead(
            image=row.image,
            concurrency=row.concurrency,
            ttft_p50_ms=row.ttft_p50_ms - engine.ttft_p50_ms,
            token_p50_ms=row.token_p50_ms - engine.token_p50_ms,
            request_ms=row.request_ms - engine.request_ms,
        )
        for row in rows
        if row.path == "http" and (engine := alone.get((row.image, row.concurrency))) is not None
    ]


def print_report(
    rows: Sequence[Figures],
    about: Mapping[str, str],
    options: BenchOptions,
    *,
    ready: Ready | None,
    out: TextIO,
) -> None:
    """Print what was measured, in the form that was asked for; `ready` is None for another's server."""
    added = overheads(rows)
    if options.output == "json":
        asked = asdict(options) | {"api_key": None}  # a key belongs into no report
        report = {
            "about": dict(about),
            "engine": None if ready is None else msgspec.to_builtins(ready),
            "bench": asked,
            "rows": [asdict(row) for row in rows],
            "server_overhead": [asdict(one) for one in added],
        }
        print(json.dumps(report, indent=2), file=out)
        return
    print_about(about, out=out)
    print_table(HEADS, [_cells(row) for row in rows], out=out)
    if added:
        print(file=out)
        print_table(OVERHEAD_HEADS, [_overhead_cells(one) for one in added], out=out)


def _cells(row: Figures) -> list[str]:
    return [
        row.path,
        "yes" if row.image else "no",
        str(row.concurrency),
        f"{row.prompt_tokens:.0f}",
        f"{row.output_tokens:.0f}",
        f"{row.ttft_p50_ms:.1f}",
        f"{row.ttft_p99_ms:.1f}",
        f"{row.token_p50_ms:.2f}",
        f"{row.token_p99_ms:.2f}",
        f"{row.output_tokens_per_s:.1f}",
        f"{row.requests_per_s:.2f}",
    ]


def _overhead_cells(one: Overhead) -> list[str]:
    return [
        "http - engine",
        "yes" if one.image else "no",
        str(one.concurrency),
        f"{one.ttft_p50_ms:.1f}",
        f"{one.token_p50_ms:.2f}",
        f"{one.request_ms:.1f}",
    ]
