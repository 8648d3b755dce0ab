"""The Python examples of the pages, run as they stand, with the model that ships."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def examples(page: str) -> list[str]:
    """Return the blocks of Python of a page of docs/."""
    return re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("page", "number", "answer"),
    [
        ("pipeline.md", 0, "a red circle"),
        ("pipeline.md", 1, "STOP"),
        ("from_lmdeploy.md", 0, "a red circle\nred"),
    ],
)
def test_an_example_runs(page: str, number: int, answer: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(examples(page)[number])
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, check=False, cwd=ROOT,
        timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answer
