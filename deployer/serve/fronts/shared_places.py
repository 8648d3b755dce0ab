"""Places of `server.max_requests` that several processes share, in memory that all of them map.

    word 0          process id of the parent
    word 1          places that there are, where a latency target moves them
    word 2          1 while an operator lets no request in
    row of a front  process id, time of its last beat (ms), connections it has closed, places, places by class

A front writes its own row alone, so that whatever it held is given back by clearing the row of a dead one. To
look at all rows and to take a place is one act under a lock that ends with its holder, also with `kill -9`.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deployer.config.schema import ServerConfig

WORD_BYTES = 8
HEAD_WORDS = 3
PID, BEAT, CLOSED, TOTAL, CLASSES = range(5)  # columns of a row; a class has one from the last on


class SharedPlaces:
    """The rows as one process sees them: the `HeldPlaces` of front `index`; None: of the parent."""

    def __init__(self, file: Path, *, fronts: int, classes: Sequence[str], index: int | None) -> None:
        """Map the file, which the first one makes."""
        self.num_fronts = fronts
        self._columns = CLASSES + len(classes)
        self._class_columns = {name: CLASSES + place for place, name in enumerate(classes)}
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        num_bytes = WORD_BYTES * (HEAD_WORDS + fronts * self._columns)
        os.ftruncate(self._file, num_bytes)
        self._map = mmap.mmap(self._file, num_bytes)
        self._words = memoryview(self._map).cast("q")
        self._index = index
        if index is None:
            self._words[0] = os.getpid()
        self.by_class: Mapping[str, int] = _Sums(self, self._class_columns)

    @property
    def allowed(self) -> int:
        """Places that there are, where a latency target moves them; the parent sets them."""
        return self._words[1]

    @allowed.setter
    def allowed(self, places: int) -> None:
        self._words[1] = places

    @property
    def paused(self) -> bool:
        """Whether an operator lets no request in, to any process."""
        return bool(self._words[2])

    @paused.setter
    def paused(self, value: bool) -> None:
        self._words[2] = int(value)

    @property
    def total(self) -> int:
        """Places that all fronts hold."""
        return self.sum_of(TOTAL)

    def change(self, by: int, qos: str | None) -> None:
        """Take or give back places of a class; None: of no class."""
        self._add(TOTAL, by)
        if qos is not None:
            self._add(self._class_columns[qos], by)

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """Keep the other processes from changing their rows."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def sum_of(self, column: int) -> int:
        """Return a column's sum over all fronts."""
        return sum(self._words[HEAD_WORDS + column :: self._columns])

    def of(self, index: int, column: int) -> int:
        """Return one word of a front's row."""
        return self._words[self._at(index, column)]

    def beat(self) -> None:
        """Say that this front lives and takes turns."""
        assert self._index is not None, "a front beats"
        self._words[self._at(self._index, PID)] = os.getpid()
        self._words[self._at(self._index, BEAT)] = _now_ms()

    def silence_s(self, index: int) -> float:
        """Return seconds since a front's last beat."""
        return (_now_ms() - self.of(index, BEAT)) / 1e3

    def connection_closed(self) -> None:
        """Count one connection of this front that has ended."""
        self._add(CLOSED, 1)

    def clear(self, index: int) -> None:
        """Give back what a front held that is gone, or is about to start."""
        start = self._at(index, 0)
        with self.alone():
            for word in range(start, start + self._columns):
                self._words[word] = 0
        self._words[self._at(index, BEAT)] = _now_ms()

    def pids(self) -> dict[str, int]:
        """Return the processes that live: the fronts by their numbers, and `parent`."""
        found = {str(index): self.of(index, PID) for index in range(self.num_fronts)}
        return {"parent": self._words[0], **{name: pid for name, pid in found.items() if pid}}

    def close(self) -> None:
        """Let the memory go."""
        self._words.release()
        self._map.close()
        os.close(self._file)

    def _add(self, column: int, by: int) -> None:
        assert self._index is not None, "a front changes its own row"
        self._words[self._at(self._index, column)] += by

    def _at(self, index: int, column: int) -> int:
        return HEAD_WORDS + index * self._columns + column


class _Sums(Mapping[str, int]):
    """Places by class, summed when they are read."""

    def __init__(self, places: SharedPlaces, columns: Mapping[str, int]) -> None:
        self._places = places
        self._columns = columns

    def __getitem__(self, name: str) -> int:
        return self._places.sum_of(self._columns[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def places_of(folder: Path, server: ServerConfig, *, index: int | None) -> SharedPlaces:
    """Return the places of a server as front `index` sees them; None: the parent, which has none."""
    names = [one.name for one in server.qos]
    return SharedPlaces(folder / "places", fronts=server.processes, classes=names, index=index)


def _now_ms() -> int:
    return int(time.monotonic() * 1e3)  # of the machine: the same in all of its processes
