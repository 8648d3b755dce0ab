"""The walk-through of docs/ops.md, every command of it, in one shell."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs/ops.md"
RUN = "import sys; from deployer.cli import main; sys.exit(main())"


def script() -> str:
    return "\n".join(
        re.findall(r"^```bash\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with `deploy`, `python`, a free port and somebody who commits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in (
        ("deploy", f'exec "{sys.executable}" -c "{RUN}" "$@"'),
        ("python", f'exec "{sys.executable}" "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    who = {f"GIT_{who}_{what}": f"ops@{who}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, **who, "PATH": path, "PORT": str(port), "OMP_NUM_THREADS": "1"}


def test_the_walk_through_works_as_it_is_written(tmp_path: Path, environment: dict[str, str]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    program = ["bash", "-euo", "pipefail", "-c", script()]
    done = subprocess.run(
        program, cwd=work, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "fits on 1 x cpu" in done.stdout
    assert "nothing that `reader` needs is missing" in done.stdout
    assert "pruned: 1 (engine.max_batch_size=1)" in done.stdout
    assert "`model.safetensors` has other content" in done.stdout
    assert "measured" in (work / "elsewhere/recipes/prod.yaml").read_text()
