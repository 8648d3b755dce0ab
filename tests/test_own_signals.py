"""That a suite behind `&` or `nohup` still tests what signals do to a command."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator

import pytest
from own_signals import ENDING, heard_by_children

PROGRAM = (
    "import signal; print(*(signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGHUP)))"
)


@pytest.fixture
def ignored() -> Generator[None, None, None]:
    """Ignore what a shell ignores for a suite behind `nohup` and `&`."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def child_ignores() -> str:
    child = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return child.stdout.strip()


def test_a_child_hears_what_the_suite_ignores(ignored: None) -> None:
    assert child_ignores() == "True True"
    with heard_by_children():
        assert child_ignores() == "False False"
    assert child_ignores() == "True True"


def test_the_suite_itself_goes_on_ignoring_it(ignored: None) -> None:
    with heard_by_children():
        for number in ENDING:
            os.kill(os.getpid(), number)


def test_every_test_runs_so() -> None:
    assert child_ignores() == "False False"
