"""The long load of docs/load_and_faults.md: its table comes also where it is ended early."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "support"


def test_a_load_that_is_asked_to_end_prints_its_table() -> None:
    command = (sys.executable, "-u", "-m", "storm", "load", "--clients", "4", "--minutes", "60")
    around = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{SUPPORT.parents[1]}"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=around, start_new_session=True)
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
