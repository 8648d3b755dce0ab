import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployer.completion import SCRIPTS, candidates
from deployer.config.tree import config_tree

TREE = config_tree(None, ())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deploy ", ["explain", "list", "serve", "+model=", "engine.tp="]),
        ("deploy ex", ["explain"]),
        ("deploy +mod", ["+model="]),
        ("deploy engine=", ["engine=auto", "engine=pytorch", "engine=turbomind"]),
        ("deploy +model=internvl2_8", ["+model=internvl2_8b"]),
        ("deploy explain +model=pocket_vl engine.dt", ["engine.dtype"]),
        ("deploy engine.dtype=fl", ["engine.dtype=float16", "engine.dtype=float32"]),
        ("deploy vision.thumbnail=", ["vision.thumbnail=false", "vision.thumbnail=true"]),
        ("deploy list mod", ["models"]),
        ("deploy completion f", ["fish"]),
        ("deploy +rec", ["+recipe="]),
        ("deploy +recipe=internvl2_8b_h2", ["+recipe=internvl2_8b_h200"]),
        ("deploy recipe ver", ["verify"]),
        ("deploy sweep ", ["promote", "resume", "run", "show"]),
        ("deploy serve --c", ["--config-dir"]),
    ],
)
def test_the_last_word_is_completed(line: str, expected: list[str]) -> None:
    assert set(expected) <= set(candidates(line, TREE))


def test_nothing_else_is_offered_after_an_equals_sign() -> None:
    assert candidates("deploy engine=py", TREE) == ["engine=pytorch"]
    assert candidates("deploy engine.tp=", TREE) == []


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Return a folder with a `deploy` command."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "deploy").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{RUN}" "$@"\n')
    (folder / "deploy").chmod(0o755)
    return folder


RUN = "import sys; from deployer.cli import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("line", "expected"),
    [("deploy engine=py", "pytorch"), ("deploy expl", "explain"), ("deploy engine.kind=tur", "turbomind")],
)
def test_bash_completes_with_the_script(bin_folder: Path, line: str, expected: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    typed = f'COMP_LINE="{line}"; COMP_POINT={len(line)}'
    program = f'eval "$(deploy completion bash)"; {typed}; _deploy; echo "${{COMPREPLY[*]}}"'
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_parse(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    subprocess.run([shell, "-n", "-c", SCRIPTS[shell]], check=True, timeout=60)
