"""`deploy parity` in this process, as the command line runs it."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from deployer.parity.command import run as run_command


def run(folder: Path, words: list[str]) -> tuple[int, str]:
    """Return the exit code and what was printed; raises what the command raises."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = run_command([f"model.path={folder}", *words], [])
    return code, out.getvalue()
