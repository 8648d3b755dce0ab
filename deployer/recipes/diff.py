"""`deploy diff A B`: which keys of two deployments differ, and what that means in bytes, tokens and time."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from deployer.errors import EXIT_OK
from deployer.output import take_output
from deployer.recipes.flat import Moved, moved, shown
from deployer.recipes.plan_summary import MEANINGS, on_one_basis
from deployer.recipes.sides import Side, differing_facts, open_sides, split_sides
from deployer.table import print_table

SCHEMA = 1
MOST_WIDE = 48  # characters of one value in the table


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """One figure of the plan that differs."""

    figure: str
    text: str
    old: Any
    new: Any
    change: float | None  # share of the old figure; None: it is no number, or there was none


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How two deployments differ."""

    one: Side
    other: Side
    keys: list[Moved]
    facts: list[tuple[str, str, str]]
    meanings: list[Meaning]


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the difference."""
    output, words = take_output(words)
    one, other = open_sides(split_sides(words), config_dirs)
    found = difference(one, other)
    if output == "json":
        print(json.dumps(as_json(found), indent=2))
    else:
        print_difference(found, sys.stdout)
    return EXIT_OK


def difference(one: Side, other: Side) -> Difference:
    """Compare two sides."""
    return Difference(
        one=one,
        other=other,
        keys=list(moved(one.config, other.config)),
        facts=list(differing_facts(one, other)),
        meanings=list(_meanings(one.plan, other.plan)),
    )


def print_difference(found: Difference, out: TextIO) -> None:
    """Print the difference as tables."""
    print(f"A  {found.one.name}\nB  {found.other.name}\n", file=out)
    if found.keys:
        rows = [
            [key.key, _cut(shown(key.old)), _cut(shown(key.new)), found.other.origins.get(key.key, "")]
            for key in found.keys
        ]
        print_table(["key", "A", "B", "B is set by"], rows, out=out)
    else:
        print("every key is the same", file=out)
    if found.facts:
        print(file=out)
        print_table(
            ["beside the config", "A", "B"], [[_cut(cell) for cell in row] for row in found.facts], out=out
        )
    _print_meanings(found, out)


def as_json(found: Difference) -> dict[str, Any]:
    """Return the difference as JSON values."""
    origins = found.other.origins
    return {
        "schema": SCHEMA,
        "a": found.one.name,
        "b": found.other.name,
        "keys": [
            {"key": key.key, "a": key.old, "b": key.new, "set_by": origins.get(key.key)} for key in found.keys
        ],
        "facts": [{"name": name, "a": old, "b": new} for name, old, new in found.facts],
        "meaning": [
            {"figure": row.figure, "text": row.text, "a": row.old, "b": row.new, "change": row.change}
            for row in found.meanings
        ],
        "plan": {"a": found.one.plan, "b": found.other.plan},
    }


def _meanings(old: dict[str, Any] | str, new: dict[str, Any] | str) -> list[Meaning]:
    if isinstance(old, str) or isinstance(new, str):
        return []
    old, new = on_one_basis(old, new)
    found = []
    for figure, text in MEANINGS.items():
        was, now = old.get(figure), new.get(figure)
        if was == now:
            continue
        numbers = isinstance(was, int | float) and isinstance(now, int | float) and was
        change = now / was - 1 if numbers and was and now is not None else None
        found.append(Meaning(figure=figure, text=text, old=was, new=now, change=change))
    return found


def _print_meanings(found: Difference, out: TextIO) -> None:
    print(file=out)
    for name, side in (("A", found.one), ("B", found.other)):
        if isinstance(side.plan, str):
            print(f"no plan of {name}: {side.plan}", file=out)
            return
    if not found.meanings:
        print("planned figures: the same", file=out)
        return
    rows = [
        [row.text, _figure(row.figure, row.old), _figure(row.figure, row.new), _percent(row.change)]
        for row in found.meanings
    ]
    print_table(["what it means (planned)", "A", "B", "change"], rows, out=out)
    assert not isinstance(found.one.plan, str) and not isinstance(found.other.plan, str), "returned above"
    if found.one.plan["basis"] != found.other.plan["basis"]:
        print("times are limits, which no program reaches: one of the devices was not measured", file=out)


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_bytes"):
        unit, text = (2**30, "GiB") if value >= 2**30 else (2**20, "MiB")
        return f"{value / unit:,.2f} {text}"
    return value if isinstance(value, str) else f"{value:,}"


def _percent(change: float | None) -> str:
    return "-" if change is None else f"{change * 100:+.1f}%"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_WIDE else f"{text[: MOST_WIDE - 1]}…"
