"""The table of `deploy parity`, and the same for programs."""

import json
from dataclasses import asdict
from typing import Any, TextIO

from deployer.parity.compare import Agreement, Difference
from deployer.parity.measure import CaseResult, Parity
from deployer.table import paint, print_table

JSON_SCHEMA = 1
LOGITS, TOKENS = ("whole", "chunked"), ("whole", "chunked", "engine", "cached")
HEADS = (
    "case", "tokens", "images", "pixels", "rows", "logits", "chunked",
    "greedy", "chunked", "engine", "cached", "holds",
)  # fmt: skip


def print_parity(parity: Parity, *, out: TextIO) -> None:
    """Print a row a case and what it is held to."""
    kind = "relative norm" if parity.tolerance.relative else "largest difference"
    ties = f", tokens equal or tied within {parity.tolerance.tie:g} rms" if parity.tolerance.tie else ""
    held = f"{kind} up to {parity.tolerance.error:g}{ties}"
    print(f"{parity.folder} on {parity.device}, {parity.dtype}: {held}\n", file=out)
    print_table(HEADS, [_row(case, relative=parity.tolerance.relative) for case in parity.cases], out=out)
    for name, why in sorted(parity.left_out.items()):
        print(f"not run: `{name}`, {why}", file=out)
    failed = [case.name for case in parity.cases if not case.holds]
    last = f"does not hold: {', '.join(failed)}" if failed else f"all {len(parity.cases)} cases hold"
    print("\n" + paint(last, "red" if failed else "bold", out=out), file=out)


def print_json(parity: Parity, *, out: TextIO) -> None:
    """Print everything as one object."""
    print(json.dumps(as_json(parity)), file=out)


def as_json(parity: Parity) -> dict[str, Any]:
    """Return what `output=json` prints."""
    return {
        "schema": JSON_SCHEMA,
        "folder": str(parity.folder),
        "device": parity.device,
        "dtype": parity.dtype,
        "tolerance": asdict(parity.tolerance),
        "holds": parity.holds,
        "cases": [{**asdict(case), "holds": case.holds} for case in parity.cases],
        "left_out": parity.left_out,
    }


def _row(case: CaseResult, *, relative: bool) -> list[str]:
    logits = [_number(case.logits[path], relative=relative) for path in LOGITS]
    tokens = [_tokens(case.tokens[path]) for path in TOKENS]
    tokens[-1] += f" ({case.cached_tokens} from cache)" + ("" if case.cache_holds else " !")
    pixels = "" if case.pixels is None else _number(case.pixels, relative=False)
    rows = "" if case.rows is None else _number(case.rows, relative=relative)
    counts = [str(case.num_tokens), str(case.num_images)]
    return [case.name, *counts, pixels, rows, *logits, *tokens, "yes" if case.holds else "NO"]


def _number(found: Difference, *, relative: bool) -> str:
    number = found.relative if relative else found.largest
    return f"{number:.1e}" + ("" if found.holds else " !")


def _tokens(found: Agreement) -> str:
    ties = f", {found.ties} tied" if found.ties else ""
    return f"{found.equal}/{found.total}{ties}" + ("" if found.holds else " !")
