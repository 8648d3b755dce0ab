"""Rendered files on disk: written, unless somebody edited what lies there.

Beside them stands `.rendered.sha256`, which `sha256sum -c` reads: a file whose hash is another one was edited
since it was written, and is replaced only where that is asked for.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.refused_write import writing
from deployer.typed_path import typed_path

RECORD = ".rendered.sha256"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """One file of a target."""

    path: str  # below the folder, with `/`
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What writing did."""

    path: Path
    how: str  # new, changed, same, removed


def absolute(file: str | None) -> str | None:
    """Return the whole path of a file of this machine, so that it is found from any folder."""
    return None if file is None else str(typed_path(file).absolute())


def edits(files: Sequence[Rendered], folder: Path) -> dict[Path, str]:
    """Return each file that would lose an edit, with the difference that writing would make."""
    recorded = _recorded(folder)
    new = {file.path: file.text for file in files}
    return {
        folder / path: _difference(folder / path, new.get(path, ""))
        for path in sorted({*recorded, *new})
        if _is_edited(folder / path, recorded.get(path), new.get(path))
    }


def write_files(files: Sequence[Rendered], folder: Path) -> list[Written]:
    """Write the files, whatever lies there; those of an earlier render that are no longer part of it go.

    Raises UnavailableError where the folder cannot be written.
    """
    recorded = _recorded(folder)
    new = {file.path: file.text for file in files}
    record = "".join(f"{_hash(text)}  {path}\n" for path, text in sorted(new.items()))
    with writing(folder):
        done = [_write(folder / path, text) for path, text in new.items()]
        for path in sorted(recorded.keys() - new.keys()):
            (folder / path).unlink(missing_ok=True)
            done.append(Written(path=folder / path, how="removed"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text(record, encoding="utf-8")
    return done


def _recorded(folder: Path) -> dict[str, str]:
    text = _text(folder / RECORD) or ""
    rows = [line.split("  ", 1) for line in text.splitlines() if "  " in line]
    return {
        path: digest for digest, path in rows if not Path(path).is_absolute() and ".." not in Path(path).parts
    }


def _is_edited(path: Path, digest: str | None, new: str | None) -> bool:
    text = _text(path)
    return text is not None and text != new and _hash(text) != digest


def _write(path: Path, text: str) -> Written:
    old = _text(path)
    if old == text:
        return Written(path=path, how="same")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return Written(path=path, how="new" if old is None else "changed")


def _difference(path: Path, text: str) -> str:
    before = (_text(path) or "").splitlines(keepends=True)
    lines = difflib.unified_diff(before, text.splitlines(keepends=True), str(path), f"{path} (rendered now)")
    return "".join(lines)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
