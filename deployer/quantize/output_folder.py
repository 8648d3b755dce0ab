"""Where a quantized copy grows and how it takes its name: whole, or not at all, and made by one process."""

import fcntl
import json
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deployer.errors import ConfigError, UnavailableError
from deployer.refused_write import writing

UNFINISHED = ".unfinished"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


def staging_path(out: Path) -> Path:
    """Return the folder beside `out` in which it grows."""
    return out.with_name(out.name + UNFINISHED)


@contextmanager
def only_one(out: Path) -> Generator[None, None, None]:
    """Hold the place of a copy against a second process, also against one that makes another format there.

    The lock ends with its process, also with `kill -9`. Raises UnavailableError where another one has it.
    """
    lock = out.with_name(f"{out.name}{UNFINISHED}.lock")
    with writing(lock):
        out.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.fstat(held.fileno()).st_nlink > 0  # else who had it took it away since it was opened
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            raise UnavailableError(
                f"quantize.out={out}: another process makes a copy there; wait for it, end it, or name "
                "another folder"
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def check_output(out: Path, *, source: Path, overwrite: bool, needed_bytes: int) -> None:
    """Raise ConfigError for a folder that may not be written, UnavailableError for too small a disk."""
    if out.resolve() == source.resolve():
        raise ConfigError([f"quantize.out={out}: is the checkpoint itself; name another folder"])
    if out.exists() and not out.is_dir():
        raise ConfigError([f"quantize.out={out}: is a file; name a folder"])
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ConfigError(
            [f"quantize.out={out}: is there already; name another, or give quantize.overwrite=true"]
        )
    parent = next(folder for folder in (out, *out.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise ConfigError([f"quantize.out={out}: {parent} cannot be written; name another folder"])
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise UnavailableError(
            f"quantize.out={out}: needs about {needed_bytes / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are "
            f"free in {parent}; free space or name a folder on another disk"
        )


def quantized_config(config: dict[str, Any], quantization: dict[str, Any]) -> str:
    """Return the text of the copy's config.json."""
    return json.dumps({**config, "quantization_config": quantization}, indent=2, ensure_ascii=False) + "\n"


def copy_companions(source: Path, staging: Path, *, but: Sequence[str]) -> None:
    """Copy what lies beside the weights: vocabulary, templates, preprocessing."""
    for path in source.iterdir():
        if path.is_file() and path.name not in but and not path.name.endswith(WEIGHTS):
            shutil.copyfile(path, staging / path.name)


def take_name(staging: Path, out: Path) -> None:
    """Let the finished folder replace what is at `out`."""
    old = out.with_name(out.name + ".replaced")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        with suppress(OSError):  # the old copy comes back, and the cause is told
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
