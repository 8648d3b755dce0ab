"""The points in print and on disk."""

import csv
import io
import json
from pathlib import Path

import pytest
from sweep_results import done, left, written_run

from deployer.sweeps.table import print_json, print_points, write_tables

WORDS = ["+model=pocket_vl", "engine.max_batch_size=2,4,8"]
POINTS = [
    done(1, "engine.max_batch_size=2", tokens_per_s=100),
    done(2, "engine.max_batch_size=4", tokens_per_s=2345.6, ttft_p99_ms=15),
    left(3, "engine.max_batch_size=8", reason="does not fit on 1 x cpu: why"),
    left(4, "engine.max_batch_size=9", reason="does not fit on 1 x cpu: why"),
    left(5, "engine.max_batch_size=10", status="failed", reason="boom (exit code 1)"),
]


def test_the_table_marks_the_front_and_names_each_reason_once(tmp_path: Path) -> None:
    out = io.StringIO()
    print_points(written_run(tmp_path / "run", WORDS, POINTS), POINTS, out=out)
    lines = out.getvalue().splitlines()
    assert lines[0].split("  ")[0] == "point" and "first token p99 ms" in lines[0]
    assert lines[1].split()[:2] == ["1", "100.00"] and "*" not in lines[1]
    assert lines[2].split()[:2] == ["2", "2,346"] and "*" in lines[2]
    assert out.getvalue().count("does not fit on 1 x cpu: why") == 1
    assert "pruned: 3 (engine.max_batch_size=8), 4 (engine.max_batch_size=9)" in out.getvalue()
    assert "failed: 5 (engine.max_batch_size=10)\n  boom (exit code 1)" in out.getvalue()


def test_json_has_every_point_with_its_figures(tmp_path: Path) -> None:
    out = io.StringIO()
    print_json(written_run(tmp_path / "run", WORDS, POINTS), POINTS, out=out)
    told = json.loads(out.getvalue())
    assert told["schema"] == 1 and told["words"] == WORDS
    assert [point["front"] for point in told["points"]] == [False, True, False, False, False]
    assert told["points"][1]["figures"]["tokens_per_s"] == 2345.6
    assert "report" not in told["points"][0]


def test_csv_and_parquet_have_a_column_a_key_and_a_row_a_point(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="table.parquet is written where pyarrow is")
    run = written_run(tmp_path / "run", WORDS, POINTS)
    assert [path.name for path in write_tables(run, POINTS)] == ["table.csv", "table.parquet"]
    with (run.path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["engine.max_batch_size"] for row in rows] == ["2", "4", "8", "9", "10"]
    assert (rows[1]["tokens_per_s"], rows[1]["front"], rows[2]["reason"]) == (
        "2345.6",
        "True",
        "does not fit on 1 x cpu: why",
    )
    columns = parquet.read_table(run.path / "table.parquet").to_pydict()
    assert columns["tokens_per_s"] == [100, 2345.6, None, None, None]


def test_many_points_under_one_reason_are_counted(tmp_path: Path) -> None:
    out = io.StringIO()
    many = [left(number, f"engine.tp={number}", reason="why") for number in range(1, 11)]
    print_points(written_run(tmp_path / "run", WORDS, many), many, out=out)
    assert "6 (engine.tp=6) and 4 more\n  why\n" in out.getvalue()
