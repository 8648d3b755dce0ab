"""Fixtures around the ops repository of `tests/support/ops_repository.py`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ops_repository import Deploy, Ops, write_ops

from deployer.cli import main
from deployer.plan.hardware import Hardware
from deployer.recipes.resolved import resolve


@pytest.fixture
def ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """Return an ops repository; we stand in another folder."""
    made = write_ops(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return made


@pytest.fixture
def deploy(capsys: pytest.CaptureFixture[str]) -> Deploy:
    """Return a function that runs a command here and returns its exit code, output and messages."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def locked(ops: Ops, deploy: Deploy) -> Ops:
    """Return the ops repository with its recipe locked, without the smoke request."""
    code, _, err = deploy("recipe", "lock", ops.recipe, "smoke=false")
    assert code == 0, err
    return ops


@pytest.fixture
def hardware() -> Callable[[str], Hardware]:
    """Return a function that reads an option of the group `hardware`."""
    return lambda name: resolve(["+model=internvl2_1b", f"hardware={name}"]).hardware
