import signal

import pytest

from deployer.ending_signals import ending_signals


@pytest.mark.parametrize(("disposition", "hears"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_closed_terminal_counts_unless_it_is_ignored(disposition: signal.Handlers, hears: bool) -> None:
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        found = ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found[:2] == (signal.SIGINT, signal.SIGTERM)
    assert (signal.SIGHUP in found) == hears
