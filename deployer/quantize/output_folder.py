"""Where a quantized copy grows and how it takes its name: whole, or not at all."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deployer.errors import ConfigError, UnavailableError

UNFINISHED = ".unfinished"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


def staging_path(out: Path) -> Path:
    """Return the folder beside `out` in which it grows."""
    return out.with_name(out.name + UNFINISHED)


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
