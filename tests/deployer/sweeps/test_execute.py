"""The process of a point: its report, its failure, its end."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest
from sweep_results import options

from deployer.sweeps import execute
from deployer.sweeps.execute import Command
from deployer.sweeps.feasible import Verdict
from deployer.sweeps.figures import accuracy_of_report, figures_of_report
from deployer.sweeps.point import Point

VERDICT = Verdict(refusal=None, hardware="cpu", num_devices=0)
POINT = Point(number=3, words=("engine.max_batch_size=4",))


def test_a_point_that_does_not_start_says_what_its_process_said(tmp_path: Path) -> None:
    command = Command(fixed=("+model=pocket_vl", "engine.tpp=2"), config_dirs=(), options=options())
    result = asyncio.run(command.measure(POINT, VERDICT, [], tmp_path / "0003.log"))
    assert (result.status, result.figures) == ("failed", {})
    assert result.reason is not None and "unknown key `engine.tpp`" in result.reason
    assert f"exit code 3; all of it: {tmp_path / '0003.log'}" in result.reason


def pid_in(file: Path) -> int:
    """Wait for a process to write its number."""
    deadline = time.monotonic() + 20
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(file.read_text())


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


STUBBORN = "#!/bin/sh\ntrap '' INT\necho $$ > $PID_FILE\nexec sleep 60\n"  # ignores being interrupted


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have points run a program that ignores being interrupted; returns where it writes its number."""
    program = tmp_path / "stubborn"
    program.write_text(STUBBORN)
    program.chmod(0o755)
    monkeypatch.setattr(execute.sys, "executable", str(program))
    monkeypatch.setattr(execute, "STOP_S", 0.2)
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pid"))
    return tmp_path / "pid"


def test_a_point_that_takes_too_long_is_ended_for_good(stubborn: Path, tmp_path: Path) -> None:
    command = Command(fixed=(), config_dirs=(), options=options(timeout_s=2.0))
    result = asyncio.run(command.measure(POINT, VERDICT, [], tmp_path / "log"))
    assert result.reason == "took more than sweep.timeout_s=2 seconds"
    assert not is_there(pid_in(stubborn))


def test_a_cancelled_point_leaves_no_process(stubborn: Path, tmp_path: Path) -> None:
    async def cancelled() -> None:
        command = Command(fixed=(), config_dirs=(), options=options())
        task = asyncio.create_task(command.measure(POINT, VERDICT, [], tmp_path / "log"))
        await asyncio.to_thread(pid_in, stubborn)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not is_there(pid_in(stubborn))


PARENT = """\
import os, subprocess, sys, time
env = {**os.environ, "DEPLOY_SWEEP_PID": str(os.getpid())}
program = "import os, time; from deployer.sweeps.child import end_with; "
program += "end_with(int(os.environ['DEPLOY_SWEEP_PID'])); "
program += "open(os.environ['PID_FILE'], 'w').write(str(os.getpid())); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", program], env=env, start_new_session=True)
time.sleep(60)
"""


def test_a_point_ends_when_its_sweep_is_killed(tmp_path: Path) -> None:
    import subprocess
    import sys

    environment = {**os.environ, "PID_FILE": str(tmp_path / "pid")}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment)
    try:
        child = pid_in(tmp_path / "pid")
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while is_there(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_there(child)


def test_figures_are_those_of_the_last_row_and_of_the_engine() -> None:
    row = dict.fromkeys(
        ("ttft_p50_ms", "ttft_p99_ms", "token_p50_ms", "token_p99_ms", "requests_per_s", "concurrency"), 1
    )
    report = {
        "rows": [{**row, "output_tokens_per_s": 1}, {**row, "output_tokens_per_s": 2, "concurrency": 8}],
        "engine": {"bytes_by_part": {"weights": 5, "kv_cache": 7}, "num_pages": 3, "page_tokens": 16},
    }
    figures = figures_of_report(json.loads(json.dumps(report)))
    assert (figures["tokens_per_s"], figures["concurrency"]) == (2, 8)
    assert (figures["memory_bytes"], figures["kv_tokens"]) == (12, 48)
    rows = [{"kind": "colour", "accuracy": 0.1}, {"kind": "all", "accuracy": 0.75}]
    assert accuracy_of_report({"rows": rows}) == 0.75


def test_a_point_sees_its_own_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert execute._environment([2, 3])["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert execute._environment([])["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
