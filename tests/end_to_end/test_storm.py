"""Loads of docs/load_and_faults.md: the table of a long one ended early; all kinds of requests at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "support"


def storm(*words: str) -> "subprocess.Popen[str]":
    around = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{SUPPORT.parents[1]}"}
    command = (sys.executable, "-u", "-m", "storm", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=around, start_new_session=True)


def test_a_load_that_is_asked_to_end_prints_its_table() -> None:
    running = storm("load", "--clients", "4", "--minutes", "60")
    try:
        assert running.stdout is not None, "it is a pipe"
        heading = next(line for line in running.stdout if line.startswith(("ready at", "Traceback")))
        assert heading.startswith("ready at")
        # As `timeout` and a terminal do: to all of the group, its clients too; the server is in its own.
        os.killpg(running.pid, signal.SIGTERM)
        told, _ = running.communicate(timeout=120)
    finally:
        running.kill()
    rows = [line.split(maxsplit=1)[1] for line in told.splitlines() if line.startswith("load ")]
    assert any(row.startswith("ended early") for row in rows), told
    assert rows[-1].split() == ["exit", "after", "SIGTERM", "0"], "the server ended as it was told to"
    assert running.returncode == 0


def test_all_kinds_of_requests_side_by_side_leave_nothing_held() -> None:
    running = storm("mixed", "--clients", "5", "--minutes", "0.1")
    try:
        told, _ = running.communicate(timeout=120)
    finally:
        running.kill()
    rows = [line.removeprefix("mixed").strip() for line in told.splitlines() if line.startswith("mixed ")]
    for kind in ("forms", "hung up on", "pictures", "rows of adapters", "texts"):
        (row,) = (row for row in rows if row.startswith(kind))
        ends = row.removeprefix(kind).strip().split(", p99")[0]
        assert ends.endswith(" ok") and "," not in ends, told
    (held,) = (row for row in rows if row.startswith("held then"))
    assert "running 0, sequences_waiting 0, kv_pages_used 0 after" in held, told
    assert rows[-1].split() == ["exit", "after", "SIGTERM", "0"], told
