"""Compiled kernels on disk, safe for any number of processes. Knows nothing about compilers or GPUs.

A file is a digest of its own content followed by the cubin. It is written under a temporary name and renamed,
so a reader sees all of it or nothing; two writers of one key write the same bytes. What cannot be read or
written is reported and compiled again: the cache is never the reason why an engine does not start.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)
_DIGEST_BYTES = hashlib.sha256().digest_size


def default_cache_dir() -> Path:
    """Return the user's folder for compiled kernels ($XDG_CACHE_HOME or ~/.cache, then deployer/cubins)."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Path.expanduser raises for a user without a home.
    return Path(os.path.expanduser(home)) / "deployer" / "cubins"  # noqa: PTH111


class CubinCache:
    """A folder of cubins by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writable = True

    def load(self, stem: str, key: str) -> bytes | None:
        """Return the cubin of `key`, or None where there is none that can be trusted."""
        return self._read(self._path(stem, key))

    def store(self, stem: str, key: str, cubin: bytes) -> None:
        """Keep a cubin. A folder that cannot be written is reported once and left alone from then on."""
        self._store(self._path(stem, key), cubin)

    def can_keep(self) -> bool:
        """Whether the folder can be written; where it cannot this is reported once."""
        probe = self.folder / f".probe-{os.getpid()}"
        self._store(probe, b"kept")
        if self._writable:
            probe.unlink()
        return self._writable

    def has(self, stem: str, key: str) -> bool:
        """Whether there is a file for this key."""
        return self._path(stem, key).exists()

    def keep_names(self, key: str, cubins: Sequence[tuple[str, str]]) -> None:
        """Keep which cubins, a stem and a key each, are all that something needs."""
        self._store(self._names(key), "\n".join(self._path(*cubin).name for cubin in cubins).encode())

    def has_all(self, key: str) -> bool:
        """Whether it is known which cubins something needs, and all of them are here."""
        content = self._read(self._names(key))
        if content is None:
            return False
        return all((self.folder / name).exists() for name in content.decode().split("\n"))

    def _path(self, stem: str, key: str) -> Path:
        return self.folder / f"{stem}-{key[:40]}.cubin"

    def _names(self, key: str) -> Path:
        return self.folder / f"{key[:40]}.names"

    def _read(self, path: Path) -> bytes | None:
        """Return what a file holds behind the digest of it; None where there is none that can be trusted."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("compiled kernel %s cannot be read (%s): compiling it again", path, error.strerror)
            return None
        digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if not body or hashlib.sha256(body).digest() != digest:
            _log.warning("compiled kernel %s is damaged: compiling it again", path)
            return None
        return body

    def _store(self, path: Path, body: bytes) -> None:
        if not self._writable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as part:
                part_path = Path(part) / path.name
                part_path.write_bytes(hashlib.sha256(body).digest() + body)
                part_path.replace(path)
        except OSError as error:
            self._writable = False
            _log.warning(
                "compiled kernels cannot be kept in %s (%s): every start will compile them again; let this "
                "user write there, or name another folder in XDG_CACHE_HOME",
                self.folder,
                error.strerror,
            )
