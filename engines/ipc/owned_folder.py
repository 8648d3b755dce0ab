"""Temporary folders that outlive nobody: locked by their owner, swept by whoever comes after it.

A lock ends with its process, also with `kill -9`, and is seen from other containers that share the folder's
root, where process ids would mean nothing. Torch-free.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

LOCK = "owner.lock"


class OwnedFolder:
    """A folder below `root` that only this user can read and that is gone at `close`."""

    def __init__(self, root: Path, prefix: str) -> None:
        sweep(root, prefix)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.path / LOCK).exists():  # else a sweep came between the two lines above
                return
            os.close(self._lock)

    def close(self) -> None:
        """Remove the folder and what is in it; once is enough, twice does no harm."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep(root: Path, prefix: str) -> None:
    """Remove the folders of owners that are gone; those of other users stay."""
    for path in root.glob(f"{prefix}*"):
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # another user's, or gone by now
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
