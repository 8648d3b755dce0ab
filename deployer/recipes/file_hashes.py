"""SHA-256 of files, streamed, several at once, with a progress bar on terminals."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployer.recipes.lock_file import LockedFile

CHUNK = 8 * 2**20
BAR_FROM = 256 * 2**20  # bytes; less is done before one could look


def hash_files(files: Sequence[Path]) -> dict[str, LockedFile]:
    """Return size and hash of each file by its name."""
    sizes = [path.stat().st_size for path in files]
    if sum(sizes) < BAR_FROM or not sys.stderr.isatty():
        return _hash_all(files, sizes, advance=lambda _: None)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"hashing {len(files)} files", total=sum(sizes))
        return _hash_all(files, sizes, advance=lambda done: progress.advance(task, done))


def hash_together(parts: Iterable[tuple[str, bytes]]) -> str:
    """Return one hash over named contents, whatever their order."""
    digest = hashlib.sha256()
    for name, content in sorted(parts):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _hash_all(
    files: Sequence[Path], sizes: Sequence[int], advance: Callable[[int], None]
) -> dict[str, LockedFile]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(lambda path: _hash(path, advance), files))
    return {
        path.name: LockedFile(bytes=size, sha256=sha256)
        for path, size, sha256 in zip(files, sizes, hashes, strict=True)
    }


def _hash(path: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
