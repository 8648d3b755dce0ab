"""What a command says where the system does not let it write."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from deployer.errors import UnavailableError


@contextmanager
def writing(place: Path) -> Generator[None, None, None]:
    """Turn what the file system refuses below `place` into UnavailableError, which names the file and why.

    A full disk passes: the command line tells of it (deployer/full_disk.py).
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        file = error.filename or place
        raise UnavailableError(
            f"{file} cannot be written: {error.strerror}; name a place where this user may write"
        ) from error
