"""The plan in print: tables for people, one JSON object for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from deployer.plan.memory import Memory
from deployer.plan.plan import SCHEMA, Plan
from deployer.plan.workload import WorkloadTimes
from deployer.table import paint, print_table

GIB, MIB = 2**30, 2**20
NOT_HERE_YET = "this version does not run it yet"


def print_json(plan: Plan, out: TextIO) -> None:
    """Print every figure: bytes, tokens, milliseconds and tokens a second as plain numbers."""
    print(json.dumps(as_json(plan), indent=2), file=out)


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values; `schema` changes where a key changes its meaning."""
    memory = plan.figures.memory
    values = asdict(plan)
    values["figures"]["memory"] |= {"free_bytes": memory.free_bytes, "kv_tokens": memory.kv_tokens}
    return {"schema": SCHEMA, "verdict": plan.verdict, **values}


def print_tables(plan: Plan, out: TextIO) -> None:
    """Print the plan as tables, then what to look at, then the verdict."""
    print(_headline(plan), file=out)
    _memory(plan, out)
    if plan.fits:
        _room(plan, out)
        _request(plan, out)
        _decode(plan, out)
        _prefill(plan, out)
        _pictures(plan, out)
        _changes(plan, out)
    else:
        _ways_to_fit(plan, out)
    print(file=out)
    for warning in plan.warnings:
        print(f"{paint('note:', 'yellow', out=out)} {warning}", file=out)
    print(paint(plan.verdict, "bold" if plan.fits else "red", out=out), file=out)


def _headline(plan: Plan) -> str:
    case = plan.case
    engine, device = case.options, case.hardware
    kv = case.dtype if engine.kv.format == "none" else engine.kv.format
    weights = case.dtype if case.weights == "none" else case.weights
    basis = {"measured": "measured ceilings", "datasheet": "datasheet peaks"}[device.basis]
    return (
        f"{plan.model} on {case.tp} x {device.name} ({basis}): engine={engine.kind}, weights {weights}, "
        f"KV {kv}{'' if plan.runs_today else f' ({NOT_HERE_YET})'}. Predicted: nothing was run"
    )


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    print(file=out)
    print(paint(title, "dim", out=out), file=out)
    print_table(heads, rows, out=out)


def _memory(plan: Plan, out: TextIO) -> None:
    memory = plan.figures.memory
    unit = "GiB" if memory.bytes_of("weights") >= GIB else "MiB"
    rows = []
    for group in ("weights", "workspace", "kv_cache"):
        members = [row for row in memory.rows if row.group == group]
        rows += [_bytes_row(row.name, row.num_bytes, memory, unit, row.how) for row in members]
        if group != "kv_cache":
            rows.append(_bytes_row(f"= {group}", memory.bytes_of(group), memory, unit, ""))
    rows.append(_bytes_row("left free", memory.free_bytes, memory, unit, ""))
    title = f"memory of each {plan.case.hardware.kind.upper()}, {memory.total_bytes / GIB:.1f} GiB"
    _section(title, ["part", unit, "%", "from"], rows, out)


def _bytes_row(name: str, num_bytes: int, memory: Memory, unit: str, how: str) -> list[str]:
    size = f"{num_bytes / GIB:.2f}" if unit == "GiB" else f"{num_bytes / MIB:.1f}"
    return [name, size, f"{num_bytes / memory.total_bytes * 100:.1f}", how]


def _room(plan: Plan, out: TextIO) -> None:
    memory, case = plan.figures.memory, plan.case
    holds = [
        f"{memory.kv_tokens:,} tokens ({memory.num_pages:,} pages of {memory.page_tokens}, "
        f"{memory.page_bytes / MIB:.2f} MiB each)",
        f"{memory.sequences_of(memory.session_len):,} sequences of {memory.session_len:,}",
    ]
    if case.image_tokens:
        holds.append(
            f"{memory.kv_tokens // case.image_tokens:,} largest pictures of {case.image_tokens:,} tokens"
        )
    print(f"\nKV pages hold {' or '.join(holds)}", file=out)
    if case.image_tokens:
        print(f"one sequence takes {memory.session_len // case.image_tokens:,} of those pictures", file=out)
    rows = [[f"{row.context:,}", f"{row.batch:,}", row.limit] for row in plan.figures.batches]
    _section("largest batch", ["tokens each", "sequences", "limited by"], rows, out)
    rows = [[f"{row.batch:,}", f"{row.context:,}", row.limit] for row in plan.figures.contexts]
    _section("longest sequences", ["sequences", "tokens each", "limited by"], rows, out)


def _request(plan: Plan, out: TextIO) -> None:
    workload = plan.figures.workload
    rows = [_request_row("limit", plan.figures.at_limit)]
    if plan.figures.at_expected is not None:
        rows.append(_request_row("expected", plan.figures.at_expected))
    pictures = ""
    if workload.num_images:
        plural = "" if workload.num_images == 1 else "s"
        pictures = f" + {workload.image_tokens:,} of {workload.num_images} picture{plural}"
    title = (
        f"one request: {workload.text_tokens:,} text tokens{pictures}, {workload.output_tokens:,} tokens out"
    )
    batch = f"{plan.figures.at_limit.batch} at once"
    heads = ["", "encode ms", "first token ms", "text only", "ms a token", batch, "tok/s", "requests/s"]
    _section(title, heads, rows, out)


def _request_row(name: str, times: WorkloadTimes) -> list[str]:
    return [
        name,
        f"{times.encode_ms:.1f}",
        f"{times.first_token_ms:.1f}",
        f"{times.first_token_text_ms:.1f}",
        f"{times.token_ms:.2f}",
        f"{times.batch_token_ms:.2f}",
        f"{times.tokens_per_s:,.0f}",
        f"{times.requests_per_s:,.0f}" if times.requests_per_s >= 100 else f"{times.requests_per_s:.3g}",
    ]


def _decode(plan: Plan, out: TextIO) -> None:
    has_expected = plan.figures.at_expected is not None
    rows = []
    for row in plan.figures.decode:
        expected = [_number(row.expected_ms, "{:.2f}"), _number(row.expected_tokens_per_s, "{:,.0f}")]
        limit = [
            f"{row.batch:,}",
            f"{row.context:,}",
            f"{row.limit_ms:.2f}",
            f"{row.limit_tokens_per_s:,.0f}",
        ]
        rows.append([*limit, *(expected if has_expected else []), row.bound, row.stopped_by or ""])
    expected = ["expected ms", "tok/s"] if has_expected else []
    heads = ["batch", "context", "limit ms", "tok/s", *expected, "bound by", "stopped by"]
    _section("decode: one token for each sequence", heads, rows, out)


def _prefill(plan: Plan, out: TextIO) -> None:
    has_expected = plan.figures.at_expected is not None
    rows = []
    for row in plan.figures.prefill:
        limit = [f"{row.tokens:,}", f"{row.limit_ms:.1f}", f"{row.limit_tokens_per_s:,.0f}"]
        rows.append([*limit, *([_number(row.expected_ms, "{:.1f}")] if has_expected else []), row.bound])
    expected = ["expected ms"] if has_expected else []
    _section("prefill: one prompt", ["tokens", "limit ms", "tok/s", *expected, "bound by"], rows, out)


def _pictures(plan: Plan, out: TextIO) -> None:
    rows = [
        [
            f"{price.width} x {price.height}",
            f"{price.columns} x {price.rows}",
            f"{price.tiles}",
            f"{price.tokens:,}",
            f"{price.kv_bytes / MIB:,.1f}",
            f"{price.encode_ms:.1f}",
            f"{price.read_ms:.1f}",
        ]
        for price in plan.figures.pictures
    ]
    if rows:
        heads = ["picture", "grid", "tiles", "tokens", "KV MiB", "encode ms", "read ms"]
        title = f"prices of pictures (limit: {plan.figures.tile_ms:.2f} ms a tile of the largest)"
        _section(title, heads, rows, out)


def _changes(plan: Plan, out: TextIO) -> None:
    now, before = plan.figures.at_limit, plan.figures.memory.kv_tokens
    rows = [
        [
            change.words,
            f"{change.kv_tokens / before:.2f}x",
            f"{change.token_ms / now.token_ms:.2f}x",
            f"{change.first_token_ms / now.first_token_ms:.2f}x",
            f"{change.requests_per_s / now.requests_per_s:.2f}x",
            "" if change.runs_today else NOT_HERE_YET,
        ]
        for change in plan.changes
    ]
    if rows:
        heads = ["change", "KV tokens", "ms a token", "first token", "requests/s", ""]
        _section("what would change it most, at the limits", heads, rows, out)


def _ways_to_fit(plan: Plan, out: TextIO) -> None:
    rows = [
        [
            change.words,
            f"{change.kv_tokens:,}",
            f"{change.batch:,}",
            f"{change.token_ms:.2f}",
            f"{change.first_token_ms:.1f}",
            "" if change.runs_today else NOT_HERE_YET,
        ]
        for change in plan.ways_to_fit
    ]
    heads = ["change", "KV tokens", "requests at once", "ms a token", "first token ms", ""]
    if rows:
        _section("nearest changes that fit", heads, rows, out)
    else:
        print("\nno change that was tried fits", file=out)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
