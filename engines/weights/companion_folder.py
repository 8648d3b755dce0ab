"""Where a folder lies that config.json names beside the checkpoint. Torch-free."""

from pathlib import Path, PurePosixPath


def companion_folder(checkpoint: Path, name: str) -> Path | None:
    """Return the absolute folder: as named from the checkpoint's, else by its last part in or beside that."""
    last = PurePosixPath(name).name
    checkpoint = checkpoint.absolute()
    for place in (checkpoint / name, checkpoint / last, checkpoint.parent / last):
        if place.is_dir():
            return place
    return None
