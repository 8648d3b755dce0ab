"""`deploy plan --against FILE`: what `deploy bench output=json` measured, beside what the plan says of it.

The file tells its config, so the plan is made of exactly what was measured. With it the shares of
conf/hardware are held to a device, and found anew where kernels changed.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from deployer.bench.options import BenchOptions
from deployer.bench.token_limits import Limits
from deployer.bench.token_report import figures_of
from deployer.bench.token_samples import TokenRow
from deployer.config.load import from_plain
from deployer.config.schema import DeployConfig
from deployer.config.suggest import quoted
from deployer.errors import EXIT_OK, ConfigError, UsageError
from deployer.output import Output
from deployer.plan.command import make_plan
from deployer.plan.compared import Compared, compared_bytes, print_compared
from deployer.plan.device_words import plan_words
from deployer.plan.plan import Plan
from deployer.plan.rates import expected

SCHEMA = 1


def run(path: Path, words: Sequence[str], config_dirs: Sequence[Path], output: Output) -> int:
    """Read, plan and print. Raises UsageError for a file that `deploy bench` did not write."""
    report = _report(path)
    config = _config(report, path)
    device = report["engine"]["device"]
    options, hardware = plan_words(words, config_dirs, device=device, told_by=str(path))
    plan = make_plan(config, options, hardware)
    rows = [*compared_bytes(plan, report["engine"]), *compared_rates(plan, report)]
    if output == "json":
        told = [asdict(row) | {"difference": row.difference} for row in rows]
        about = {"schema": SCHEMA, "file": str(path), "model": plan.model, "hardware": hardware.name}
        print(json.dumps({**about, "rows": told}, indent=2))
        return EXIT_OK
    basis = "limit" if plan.figures.at_expected is None else "expected"
    print(f"{path}: {plan.model}, planned for {plan.case.tp} x {hardware.name} ({basis})\n")
    print_compared(rows, out=sys.stdout)
    return EXIT_OK


def compared_rates(plan: Plan, report: Mapping[str, Any]) -> Iterator[Compared]:
    """Yield each figure of each row of a report with what the plan expects of it, or else its limit."""
    limits = Limits.of_case(plan.case, expected(plan.case))
    loads = {load["name"]: msgspec.convert(load, BenchOptions) for load in report["bench"]}
    for told in report["rows"]:
        row = msgspec.convert(told, TokenRow)
        over = " over HTTP" if row.path == "http" else ""
        for figure in figures_of(row, loads[row.load], limits):
            name, _, unit = figure.name.partition(" ")
            yield Compared(
                name=f"{row.load}, {row.concurrency} at once{over}: {name}",
                unit=unit or figure.name,
                planned=figure.limit,
                measured=figure.measured,
            )


def _report(path: Path) -> dict[str, Any]:
    rule = "is not what `deploy bench bench=decode output=json` writes"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"--against {path}: there is no such file; a server's address starts with http://"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"--against {path}: {rule}: {error}") from error
    if not isinstance(report, dict):
        raise UsageError(f"--against {path}: {rule}: it is no object")
    missing = sorted({"config", "engine", "bench", "rows"} - report.keys())
    if missing:
        raise UsageError(f"--against {path}: {rule}: it lacks {quoted(missing)}")
    if not isinstance(report["bench"], list):
        raise UsageError(f"--against {path}: {rule}: it asked texts")
    if report["engine"] is None:
        raise UsageError(f"--against {path}: {rule}: it asked a server of which it does not know the engine")
    try:
        msgspec.convert(report["bench"], list[BenchOptions])
    except msgspec.ValidationError as error:
        raise UsageError(
            f"--against {path}: its loads are not of this version ({error}); measure again"
        ) from error
    return report


def _config(report: Mapping[str, Any], path: Path) -> DeployConfig:
    try:
        return from_plain(report["config"])
    except ConfigError as error:
        raise UsageError(
            f"--against {path}: its config is not one of this version ({error.faults[0]}); measure again"
        ) from error
