"""The points of a run as a table: for people, as JSON, as CSV and as Parquet."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from deployer.sweeps.figures import DIRECTIONS, LABELS
from deployer.sweeps.pareto import front
from deployer.sweeps.point import Result
from deployer.sweeps.run_folder import RunFolder
from deployer.table import paint, print_table

SCHEMA = 1  # of the JSON form
MOST_NAMED = 6  # points under one reason; the files name all


def print_points(run: RunFolder, results: Sequence[Result], *, out: TextIO) -> None:
    """Print what was measured, the front marked, then what did not run and why."""
    objectives = run.asked.options.objectives
    best = front(results, objectives)
    done = [result for result in results if result.status == "done"]
    if done:
        names = shown_figures(results, objectives)
        heads = ["point", *(_head(name) for name in names), "", "with"]
        rows = [
            [
                str(result.number),
                *(number(name, result.figures[name]) for name in names),
                _mark(result, best),
                " ".join(result.words),
            ]
            for result in done
        ]
        print_table(heads, rows, out=out)
        print(
            f"\n* nothing measured is better in one of {', '.join(objectives)} and as good in all", file=out
        )
    for reason, points in reasons(results):
        named = ", ".join(f"{point.number} ({' '.join(point.words)})" for point in points[:MOST_NAMED])
        rest = f" and {len(points) - MOST_NAMED} more" if len(points) > MOST_NAMED else ""
        what = f"{points[0].status}: {named}{rest}"
        print(f"\n{paint(what, 'yellow', out=out)}", file=out)
        print("\n".join(f"  {line}" for line in reason.splitlines()), file=out)


def print_json(run: RunFolder, results: Sequence[Result], *, out: TextIO) -> None:
    """Print every point without its report, which stands in the run's folder."""
    best = front(results, run.asked.options.objectives)
    points = [
        {key: value for key, value in asdict(result).items() if key != "report"}
        | {"front": result.number in best}
        for result in results
    ]
    asked = {"run": str(run.path), "started": run.asked.started, "words": run.asked.words}
    report = {"schema": SCHEMA, **asked, "sweep": asdict(run.asked.options), "points": points}
    print(json.dumps(report, indent=2), file=out)


def write_tables(run: RunFolder, results: Sequence[Result]) -> list[Path]:
    """Write table.csv, and table.parquet where pyarrow is installed; returns what was written."""
    rows = [_flat(result, front(results, run.asked.options.objectives)) for result in results]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    path = run.path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    if find_spec("pyarrow") is None:
        return [path]
    return [path, _write_parquet(run.path / "table.parquet", columns, rows)]


def shown_figures(results: Sequence[Result], objectives: Sequence[str]) -> list[str]:
    """Return the figures that every measured point has: what is traded off first, then the others."""
    done = [result.figures for result in results if result.status == "done"]
    known = [name for name in DIRECTIONS if all(name in figures for figures in done)]
    return [*objectives, *(name for name in known if name not in objectives)]


def reasons(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    """Yield each reason for which points are not measured, with those points."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.status != "done":
            found.setdefault((result.status, _reason(result)), []).append(result)
    yield from ((reason, points) for (_, reason), points in found.items())


def number(name: str, value: float) -> str:
    """Return a figure as a person reads it, in the unit of its label."""
    value /= LABELS[name][1]
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def _reason(result: Result) -> str:
    assert result.reason is not None, "what is not done says why"
    return result.reason


def _head(name: str) -> str:
    return LABELS[name][0]


def _mark(result: Result, best: Sequence[int]) -> str:
    if result.same_as is not None:
        return f"= {result.same_as}"
    return "*" if result.number in best else ""


def _flat(result: Result, best: Sequence[int]) -> dict[str, Any]:
    """Return a row of the files: one column a key that is swept, one a figure."""
    swept = dict(word.lstrip("+").split("=", 1) for word in result.words)
    return {
        "point": result.number,
        "status": result.status,
        "front": result.number in best,
        **swept,
        **result.figures,
        "same_as": result.same_as,
        "hardware": result.hardware,
        "seconds": result.seconds,
        "date": result.date,
        "reason": result.reason,
    }


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    pyarrow.parquet.write_table(table, path)
    return path
