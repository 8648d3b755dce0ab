"""Room for pixels in shared memory, and for checkpoints on disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployer.config.schema import DeployConfig
from deployer.recipes.findings import Finding
from deployer.typed_path import typed_path

SHARED = Path("/dev/shm")
PIXEL_BYTES = 3
FEW_GIB = 20  # a model of 8 billion parameters in 16 bits is 16 GiB


def shared_memory_findings(config: DeployConfig | None, *, folder: Path = SHARED) -> Iterator[Finding]:
    """Yield whether /dev/shm holds the pixels of a request; docker gives it 64 MB unless told otherwise."""
    if not folder.is_dir():
        yield Finding(level="error", part="/dev/shm", text="is not there: pixels go to the engine through it")
        return
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / 2**20:,.0f} MiB free of {usage.total / 2**20:,.0f}"
    needed = config.vision.max_image_pixels * PIXEL_BYTES if config is not None else 0
    if usage.free < needed:
        rule = f"one picture of vision.max_image_pixels takes up to {needed / 2**20:,.0f} MiB"
        way_out = "docker run --shm-size=1g, or lower vision.max_image_pixels"
        yield Finding(level="warning", part="/dev/shm", text=f"{text}; {rule}: {way_out}")
    else:
        yield Finding(level="ok", part="/dev/shm", text=text)


def disk_findings(config: DeployConfig | None) -> Iterator[Finding]:
    """Yield the room where checkpoints are downloaded to."""
    folder = _downloads(config)
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(existing).free / 2**30
    text = f"{free:,.0f} GiB free for downloads in {folder}"
    if free < FEW_GIB:
        text += "; for larger models set model.download_dir=<folder on a larger disk>"
    yield Finding(level="ok" if free >= FEW_GIB else "warning", part="disk", text=text)


def _downloads(config: DeployConfig | None) -> Path:
    if config is not None and config.model.download_dir is not None:
        return typed_path(config.model.download_dir).resolve()
    home = os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface"
    return typed_path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").resolve()
