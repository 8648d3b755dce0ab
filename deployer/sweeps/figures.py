"""The figures of a point: one row of its benchmark's report, and what its engine said it got."""

from collections.abc import Mapping
from typing import Any, Literal

Direction = Literal["maximize", "minimize"]

# figure -> which way is better
DIRECTIONS: Mapping[str, Direction] = {
    "tokens_per_s": "maximize",
    "requests_per_s": "maximize",
    "ttft_p50_ms": "minimize",
    "ttft_p99_ms": "minimize",
    "token_p50_ms": "minimize",
    "token_p99_ms": "minimize",
    "memory_bytes": "minimize",
    "kv_tokens": "maximize",
    "accuracy": "maximize",
}
# figure -> what a person reads, and what it is divided by for that
LABELS: Mapping[str, tuple[str, float]] = {
    "tokens_per_s": ("tokens/s", 1),
    "requests_per_s": ("requests/s", 1),
    "ttft_p50_ms": ("first token p50 ms", 1),
    "ttft_p99_ms": ("first token p99 ms", 1),
    "token_p50_ms": ("a token p50 ms", 1),
    "token_p99_ms": ("a token p99 ms", 1),
    "memory_bytes": ("memory GiB", 2**30),
    "kv_tokens": ("KV tokens", 1),
    "accuracy": ("right answers %", 0.01),
}
_OF_ROW = {
    "tokens_per_s": "output_tokens_per_s",
    "requests_per_s": "requests_per_s",
    "ttft_p50_ms": "ttft_p50_ms",
    "ttft_p99_ms": "ttft_p99_ms",
    "token_p50_ms": "token_p50_ms",
    "token_p99_ms": "token_p99_ms",
    "concurrency": "concurrency",
}


def figures_of_report(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a point from what `deploy bench output=json` printed.

    Its last row counts: the most requests at once, over HTTP and with a picture where those were measured.
    `memory_bytes` is what the engine holds on a device: weights, workspace and KV pages.
    """
    row, engine = report["rows"][-1], report["engine"]
    return {
        **{name: float(row[key]) for name, key in _OF_ROW.items()},
        "memory_bytes": float(sum(engine["bytes_by_part"].values())),
        "kv_tokens": float(engine["num_pages"] * engine["page_tokens"]),
    }


def accuracy_of_report(report: Mapping[str, Any]) -> float:
    """Return the share of right answers from what `deploy evaluate output=json` printed."""
    (everything,) = (row for row in report["rows"] if row["kind"] == "all")
    return float(everything["accuracy"])
