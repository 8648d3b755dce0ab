"""How a process ended, and why where it left word in a file beside its socket. Torch-free.

A process whose steps wait for another one that is gone can neither end them nor use its socket from another
thread; a file it can write.
"""

import signal
from pathlib import Path

SCHEME = "ipc://"


def manner_of_death(code: int) -> str:
    """Return what `subprocess` says of an exit: a status, or minus the signal that ended it."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # one of the real-time signals, which have no names of their own
        return f"was ended by signal {-code}"


def leave_last_words(endpoint: str, words: str) -> None:
    """Say why the process that this socket belongs to is about to end."""
    _file(endpoint).write_text(words, encoding="utf-8")


def last_words(endpoint: str) -> str | None:
    """Return what `leave_last_words` was given; None: nothing."""
    try:
        return _file(endpoint).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _file(endpoint: str) -> Path:
    return Path(endpoint.removeprefix(SCHEME)).with_suffix(".last_words")
