"""The progress bar: on a terminal, and nowhere else."""

import io
import sys

import pytest

from deployer.offline.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("err", "shown"), [(Terminal(), True), (Terminal(), False), (io.StringIO(), True)])
def test_a_bar_is_drawn_on_a_terminal_that_wants_one(
    monkeypatch: pytest.MonkeyPatch, err: io.StringIO, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(3, shown=shown) as advance:
        for _ in range(3):
            advance()
    assert ("3/3" in err.getvalue()) == (shown and isinstance(err, Terminal))
