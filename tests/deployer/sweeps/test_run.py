"""A whole sweep on two GPUs that are not there: points are a program that says which GPUs it was given."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from machines import TWO_HOPPERS

from deployer.cli import main
from deployer.sweeps import execute
from deployer.sweeps.feasible import Here

BOX = Here(
    machine=TWO_HOPPERS,
    memory_bytes=500 * 2**30,
    num_devices=2,
)
WORDS = ("+model=internvl2_8b", "engine=turbomind", "engine.load_format=random", "bench=decode")
POINT = """#!{python}
import json, os, time
began = time.time()
deadline = began + 5
seen = os.environ["CUDA_VISIBLE_DEVICES"]
folder = os.environ["SEEN"]
open(f"{{folder}}/began-{{os.getpid()}}", "w").close()
while len(os.listdir(folder)) < int(os.environ["AT_ONCE"]) and time.time() < deadline:
    time.sleep(0.01)
row = dict.fromkeys({names}, 1.0)
ended = time.time()
about = {{"gpus": seen, "began": str(began), "ended": str(ended)}}
engine = {{"device": "cuda:0", "bytes_by_part": {{"weights": 5}}, "num_pages": 1, "page_tokens": 64}}
print(json.dumps({{"about": about, "engine": engine, "rows": [row]}}))
"""
NAMES = (
    "concurrency", "output_tokens_per_s", "requests_per_s", "ttft_p50_ms", "ttft_p99_ms", "token_p50_ms",
    "token_p99_ms",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A folder to sweep in, and what its points said."""

    folder: Path

    def points(self) -> dict[int, dict[str, Any]]:
        """Return every settled point by its number."""
        files = sorted((self.folder / "sweeps/one/points").glob("*.json"))
        return {int(file.stem): json.loads(file.read_text()) for file in files}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Have points run the program, on a machine with two GPUs."""
    program = tmp_path / "point"
    program.write_text(POINT.format(python=sys.executable, names=NAMES))
    program.chmod(0o755)
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setattr(execute.sys, "executable", str(program))
    monkeypatch.setattr(Here, "probe", classmethod(lambda _: BOX))
    monkeypatch.setenv("SEEN", str(seen))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.chdir(tmp_path)
    return Sweep(folder=tmp_path)


def test_points_run_side_by_side_each_on_gpus_of_its_own(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AT_ONCE", "2"
    )  # the first two wait for each other, so they run together or not at all
    words = ("engine.max_batch_size=256,512,1024", "engine.tp=1", "sweep.name=one")
    assert main(["-m", "bench", *WORDS, *words]) == 0
    points = sweep.points()
    assert [point["status"] for point in points.values()] == ["done"] * 3
    first, second, _ = (point["about"] for point in points.values())
    assert {first["gpus"], second["gpus"]} == {"4", "6"}
    assert max(float(one["began"]) for one in (first, second)) < min(
        float(one["ended"]) for one in (first, second)
    )


def test_a_split_point_gets_both_and_what_cannot_fit_never_starts(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AT_ONCE", "1")
    words = ("engine.tp=1,2,4", "engine.max_batch_size=256", "sweep.name=one")
    assert main(["-m", "bench", *WORDS, *words]) == 0
    points = sweep.points()
    assert [point["about"].get("gpus") for point in points.values()] == ["4", "4,6", None]
    assert points[max(points)]["status"] == "pruned"
    assert "engine.tp=4: splits the model over 4 devices, and 2 CUDA GPUs" in capsys.readouterr().out


def test_a_resumed_sweep_runs_only_what_is_not_settled(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT_ONCE", "1")
    words = ("engine.max_batch_size=256,512", "sweep.name=one", "sweep.devices=[6]")
    assert main(["-m", "bench", *WORDS, *words]) == 0
    before = sweep.points()
    assert {point["about"]["gpus"] for point in before.values()} == {"6"}
    last = max(before)
    (sweep.folder / f"sweeps/one/points/{last:04}.json").unlink()  # as a kill leaves it
    assert main(["sweep", "resume", "sweeps/one"]) == 0
    after = sweep.points()
    assert after[min(before)] == before[min(before)]
    assert float(after[last]["about"]["began"]) > float(before[last]["about"]["ended"])
