"""Compiled kernels on disk, safe for any number of processes. Knows nothing about compilers or GPUs.

A file is a digest of its own content followed by the cubin. It is written under a temporary name and renamed,
so a reader sees all of it or nothing; two writers of one key write the same bytes. What cannot be read or
written is reported and compiled again: the cache is never the reason why an engine does not start.
"""

import hashlib
import logging
import os
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)
_DIGEST_BYTES = hashlib.sha256().digest_size


def default_cache_dir() -> Path:
    """Return the user's folder for compiled kernels ($XDG_CACHE_HOME or ~/.cache, then deployer/cubins)."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "deployer" / "cubins"


class CubinCache:
    """A folder of cubins by key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writable = True

    def load(self, stem: str, key: str) -> bytes | None:
        """Return the cubin of `key`, or None where there is none that can be trusted."""
        path = self._path(stem, key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("compiled kernel %s cannot be read (%s): compiling it again", path, error.strerror)
            return None
        digest, cubin = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if not cubin or hashlib.sha256(cubin).digest() != digest:
            _log.warning("compiled kernel %s is damaged: compiling it again", path)
            return None
        return cubin

    def store(self, stem: str, key: str, cubin: bytes) -> None:
        """Keep a cubin. A folder that cannot be written is reported once and left alone from then on."""
        if not self._writable:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".part-") as part:
                path = Path(part) / "cubin"
                path.write_bytes(hashlib.sha256(cubin).digest() + cubin)
                path.replace(self._path(stem, key))
        except OSError as error:
            self._writable = False
            _log.warning(
                "compiled kernels cannot be kept in %s (%s): every start will compile them again",
                self._folder,
                error.strerror,
            )

    def _path(self, stem: str, key: str) -> Path:
        return self._folder / f"{stem}-{key[:40]}.cubin"
