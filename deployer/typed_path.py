"""A path as people type it, `~` being their home; what no path can be names nothing, and raises nothing."""

import os
from pathlib import Path


def typed_path(text: str | Path) -> Path:
    """Return the path; `~` of a user that is not there stays as it is, and so names nothing that exists."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path.expanduser raises for such a user


def names_file(path: Path) -> bool:
    """Tell whether there is such a file; a word that is longer than a name may be is none."""
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for such a word


def names_folder(path: Path) -> bool:
    """Tell likewise whether there is such a folder."""
    return os.path.isdir(path)  # noqa: PTH112
