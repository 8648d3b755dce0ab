"""The folder of a run: what was asked, and one file for each point that is settled.

    RUN/sweep.json         the words and options, written once
    RUN/points/0003.json   a settled point: written beside its place and renamed, so it is whole or not there
    RUN/points/0003.log    what its process said
    RUN/study.journal      of a search
    RUN/table.csv ...      made anew from the points at each end

Whatever kills a sweep, the points that are settled stay, and `deploy sweep resume RUN` does the others.
"""

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from deployer.errors import ConfigError, UnavailableError, UsageError
from deployer.refused_write import writing
from deployer.sweeps.options import SweepOptions
from deployer.sweeps.point import Result

T = TypeVar("T")
SCHEMA = 1  # of sweep.json and of the points
MANIFEST = "sweep.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a sweep was started with."""

    schema: int
    words: list[str]  # but for those of the group `sweep`
    config_dirs: list[str]  # absolute
    options: SweepOptions
    started: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """One run on disk."""

    path: Path
    asked: Asked

    def results(self) -> dict[int, Result]:
        """Return every settled point by number. Raises ConfigError for a file that can't be read."""
        found = (_read(file, Result) for file in sorted((self.path / "points").glob("*.json")))
        return {result.number: result for result in found}

    def write(self, result: Result) -> None:
        """Settle a point."""
        write_whole(self._file(result.number, "json"), asdict(result))

    def forget(self, number: int) -> None:
        """Take a point's result away, so that it runs again."""
        self._file(number, "json").unlink()

    def log(self, number: int) -> Path:
        """Return where the process of a point writes its messages."""
        return self._file(number, "log")

    def _file(self, number: int, suffix: str) -> Path:
        return self.path / "points" / f"{number:04}.{suffix}"

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """Hold the folder against a second process. Raises UnavailableError where another one has it."""
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UnavailableError(
                    f"{self.path}: another process runs this sweep; wait for it, or end it first"
                ) from error
            yield


def create_run(path: Path, words: list[str], config_dirs: list[Path], options: SweepOptions) -> RunFolder:
    """Make the folder of a new run.

    Raises UsageError where it is there already, UnavailableError where it cannot be made.
    """
    if path.exists():
        raise UsageError(f"{path}: is there already; go on with it: deploy sweep resume {path}")
    with writing(path):
        (path / "points").mkdir(parents=True)
    asked = Asked(
        schema=SCHEMA,
        words=words,
        config_dirs=[str(folder.resolve()) for folder in config_dirs],
        options=options,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_whole(path / MANIFEST, asdict(asked))
    return RunFolder(path=path, asked=asked)


def open_run(path: Path) -> RunFolder:
    """Read a run. Raises UsageError where the folder is none, ConfigError for one of another version."""
    if not (path / MANIFEST).is_file():
        raise UsageError(f"{path}: is no run of a sweep; `deploy -m bench ...` makes one and names it")
    asked = _read(path / MANIFEST, Asked)
    if asked.schema != SCHEMA:
        raise ConfigError(
            [f"{path / MANIFEST}: schema={asked.schema}: this version reads schema {SCHEMA}; sweep anew"]
        )
    return RunFolder(path=path, asked=asked)


def write_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees all of it or nothing, a power cut included."""
    beside = path.with_suffix(".writing")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise ConfigError(
            [f"{path}: is not what this version writes: {error}; remove it, and resume the run"]
        ) from error
