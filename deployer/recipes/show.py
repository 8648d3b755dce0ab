"""`deploy recipe show RECIPE`: what it is for, what it reaches, what it plans to, and its lock."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployer.config.origins import shown_path
from deployer.config.recipe_file import Header
from deployer.errors import EXIT_OK
from deployer.output import take_output
from deployer.plan.plan import Plan
from deployer.recipes.command import one_recipe
from deployer.recipes.lock_file import lock_path, read_lock
from deployer.recipes.options import take_words
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.resolved import plan_of, resolve_recipe
from deployer.table import print_table

SCHEMA = 1


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print one recipe."""
    output, words = take_output(words)
    taken = take_words(words, verb="recipe show", switches={})
    path = one_recipe(taken.names, config_dirs, verb="recipe show")
    resolved, header = resolve_recipe(path, config_dirs)
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    planned = summary(plan) if isinstance(plan, Plan) else None
    if output == "json":
        values = {"schema": SCHEMA, "file": str(path), "recipe": asdict(header), "plan": planned}
        print(json.dumps({**values, "locked": lock_path(path).is_file()}, indent=2))
        return EXIT_OK
    rows = {
        "recipe": f"{header.name} {header.version}",
        "file": shown_path(path),
        "what it is": header.description,
        "model": resolved.config.model.name,
        "hardware": f"{resolved.config.engine.tp} x {header.hardware}",
        "figures": _basis(header),
        "plan": plan if isinstance(plan, str) else plan.verdict,
        "lock": _lock(path),
    }
    for name, text in rows.items():
        print(f"{name:10}  {text}")
    _print_figures(header, planned)
    return EXIT_OK


def _basis(header: Header) -> str:
    expected = header.expected
    if expected is None:
        return "none"
    if expected.basis == "planned":
        return f"planned, not measured ({expected.date})"
    return f"measured {expected.date} on {expected.machine}, commit {expected.commit}"


def _lock(path: Path) -> str:
    file = lock_path(path)
    if not file.is_file():
        return "none"
    made = read_lock(file).made
    return f"{shown_path(file)}, written {made.date}"


def _print_figures(header: Header, planned: dict[str, Any] | None) -> None:
    expected = header.expected.figures if header.expected else {}
    plan = figures(planned) if planned else {}
    rows = [
        [name, _number(expected.get(name)), _number(plan.get(name))] for name in sorted({*expected, *plan})
    ]
    if rows:
        print()
        print_table(["figure", "in the recipe", "planned now"], rows, out=sys.stdout)
    if header.expected is not None and header.expected.basis == "measured":
        print("\nmeasured with the requests that the recipe's file tells; planned for those of conf/plan")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.10g}"
