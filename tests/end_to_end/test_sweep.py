"""A sweep as a user runs it: measured in processes of its own, killed, resumed, shown, and promoted."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from live_server import COMMAND

QUICK = (
    "+model=pocket_vl",
    "engine=pytorch",
    "engine.num_gpu_blocks=32",
    "bench=decode",
    "bench.concurrency=[2]",
    "bench.prompt_tokens=32",
    "bench.output_tokens=4",
    "bench.warmup=0",
)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `deploy` in a folder, as a shell starts it there."""
    return subprocess.Popen(
        (*COMMAND, *words),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run `deploy` to its end: exit code, output, messages."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep of three points, kill it after the first, go on with it; the folder that it ran in."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("engine.max_batch_size=2,1,4", "sweep.name=one")
    process = start(folder, "-m", "bench", *QUICK, *words)
    wait_for(folder / "sweeps/one/points/0002.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    return folder


def test_a_killed_sweep_is_resumed_shown_and_promoted(folder: Path) -> None:
    first = (folder / "sweeps/one/points/0001.json").stat().st_mtime_ns
    code, out, err = run(folder, "sweep", "resume", "sweeps/one")
    assert code == 0, err
    assert "2 of 3 points are settled already" in err and "[3/3] 3: engine.max_batch_size=4: tokens/s" in err
    assert (folder / "sweeps/one/points/0001.json").stat().st_mtime_ns == first
    assert "pruned: 2 (engine.max_batch_size=1)\n  bench.concurrency=[2] (decode): engine.max_batch" in out
    with (folder / "sweeps/one/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "pruned", "done"]
    assert float(rows[2]["tokens_per_s"]) > 0 and float(rows[2]["kv_tokens"]) == 32 * 64
    code, out, err = run(folder, "sweep", "show", "sweeps/one", "output=json")
    assert code == 0, err
    told = json.loads(out)
    assert [point["status"] for point in told["points"]] == ["done", "pruned", "done"]
    code, out, err = run(folder, "sweep", "promote", "sweeps/one", "point=3", "as=prod")
    assert code == 0, err
    assert "smoke   `What colour is the circle?` -> `red`" in out
    lock = json.loads((folder / "recipes/prod.lock.json").read_text())
    assert lock["config"]["engine"]["max_batch_size"] == 4


def test_ctrl_c_keeps_what_is_settled_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "bench", *QUICK, "engine.max_batch_size=1,2", "sweep.name=two")
    wait_for(tmp_path / "sweeps/two/points/0002.log", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: 1 of 2 points are kept; go on with: deploy sweep resume sweeps/two" in err
    assert "Traceback" not in err


def test_a_sweep_without_a_point_that_can_run_lists_the_reasons(tmp_path: Path) -> None:
    words = (
        "engine.max_batch_size=1",
        "engine.cache_max_entry_count=90000000000000,91000000000000",
        "sweep.name=three",
    )
    code, out, err = run(tmp_path, "-m", "bench", *QUICK, *words)
    assert code == 4
    assert (
        "pruned: 1 (engine.cache_max_entry_count=90000000000000)" in out and "lets no more run at once" in out
    )
    assert "error: none of the 2 points can run, for the reasons above" in err
