"""The signals that end a command, for tests that send them, also where the suite itself has them ignored."""

import signal
from collections.abc import Generator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGHUP)


@contextmanager
def heard_by_children() -> Generator[None, None, None]:
    """Let processes that are started meanwhile hear what this one ignores.

    A shell starts a suite behind `&` with SIGINT ignored, `nohup` with SIGHUP, and what is ignored stays so
    in every process below it. A handler that does nothing ignores as well, and ends where a program starts.
    """
    ignored = [number for number in ENDING if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _nothing)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def _nothing(*_: object) -> None:
    pass
