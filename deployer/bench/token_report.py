"""The table of a benchmark on token ids: one line a figure with its limit, or the same as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import msgspec

from deployer.bench.options import BenchOptions
from deployer.bench.token_asks import asked_lengths, row_stream
from deployer.bench.token_limits import Limits
from deployer.bench.token_samples import TokenRow
from deployer.table import print_about, print_table
from engines.messages import Ready

HEADS = (
    "load", "path", "at once", "requests", "prompt tok", "output tok", "figure", "measured", "limit",
    "of limit", "steps", "ms a step", "host ms", "gaps", "proposed right", "server cores", "client cores",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure of a row."""

    name: str
    measured: float
    limit: float | None  # None: of another device, or of none
    of_limit: float | None  # share of the limit that was reached


def figures_of(row: TokenRow, options: BenchOptions, limits: Limits | None) -> Iterator[Figure]:
    """Yield the figures that a row stands for: latency of one request, rates of many."""
    size = (options.image_width, options.image_height) if options.images == "with" else None
    if row.concurrency == 1:
        lowest = limits.ttft_ms(row, size) if limits else None
        share = lowest / row.ttft_p50_ms if lowest else None
        yield Figure(name="ttft ms", measured=row.ttft_p50_ms, limit=lowest, of_limit=share)
    if not options.length_sigma:
        most = limits.prompt_tokens_per_s(row, size) if limits else None
        yield _rate("prompt tok/s", row.prompt_tokens_per_s, most)
    if row.decode_tokens_per_s is not None:
        most = limits.decode_tokens_per_s(row) if limits else None
        yield _rate("decode tok/s", row.decode_tokens_per_s, most)
    if row.requests > 1:
        yield _rate("req/s", row.requests_per_s, _most_requests(row, options, limits) if limits else None)


def _most_requests(row: TokenRow, options: BenchOptions, limits: Limits) -> float:
    if not options.length_sigma:
        size = (options.image_width, options.image_height) if options.images == "with" else None
        return limits.requests_per_s(row, size)
    asked = asked_lengths(options, row.requests, stream=row_stream(row.concurrency))
    return row.requests / limits.burst_s(asked, in_flight=row.concurrency)


def print_token_report(
    rows: Sequence[tuple[BenchOptions, TokenRow]],
    about: Mapping[str, str],
    limits: Limits | None,
    options: BenchOptions,
    *,
    deployment: Mapping[str, Any],
    ready: Ready | None,
    out: TextIO,
) -> None:
    """Print what was measured, in the form that was asked for; `deployment` is its config without secrets."""
    told = [(row, list(figures_of(row, own, limits))) for own, row in rows]
    if options.output == "json":
        shown = [asdict(row) | {"figures": [asdict(figure) for figure in found]} for row, found in told]
        report = {
            "about": dict(about),
            "config": dict(deployment),
            "engine": None if ready is None else msgspec.to_builtins(ready),
            "bench": [asdict(own) | {"api_key": None} for own in _distinct(rows)],
            "rows": shown,
        }
        print(json.dumps(report, indent=2), file=out)
        return
    print_about(about, out=out)
    print_table(HEADS, [_cells(row, figure) for row, found in told for figure in found], out=out)


def _distinct(rows: Sequence[tuple[BenchOptions, TokenRow]]) -> list[BenchOptions]:
    return list({id(own): own for own, _ in rows}.values())


def _rate(name: str, measured: float, limit: float | None) -> Figure:
    share = None if limit is None else measured / limit
    return Figure(name=name, measured=measured, limit=limit, of_limit=share)


def _cells(row: TokenRow, figure: Figure) -> list[str]:
    return [
        row.load,
        row.path,
        str(row.concurrency),
        str(row.requests),
        f"{row.prompt_tokens:.0f}",
        f"{row.output_tokens:.0f}",
        figure.name,
        _number(figure.measured),
        "-" if figure.limit is None else _number(figure.limit),
        "-" if figure.of_limit is None else f"{100 * figure.of_limit:.0f}%",
        "-" if row.steps is None else str(row.steps),
        _or_dash(row.step_ms, "{:.3f}"),
        _or_dash(row.host_ms, "{:.3f}"),
        _or_dash(row.gap_share, "{:.1%}"),
        _right(row),
        _or_dash(row.server_cores, "{:.2f}"),
        _or_dash(row.client_cores, "{:.2f}"),
    ]


def _right(row: TokenRow) -> str:
    """Return which share of the proposed tokens the model chose, and how many they were."""
    if not row.proposed_tokens or row.accepted_tokens is None:
        return "-"
    return f"{row.accepted_tokens / row.proposed_tokens:.0%} of {row.proposed_tokens:,}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
