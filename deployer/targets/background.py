"""A server that `deploy up` left in the background of this machine: its pid file, and whether it still runs.

The pid file holds the process, when it began (a number that is used again is another process) and where it
listens.
"""

import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from deployer.errors import UnavailableError
from deployer.typed_path import typed_path

_PID_FILE = ".pid.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """A server that `deploy up` started."""

    name: str
    pid: int
    began: str  # in clock ticks since the machine's start, as /proc tells
    url: str
    log: str
    stop_s: float  # that it may take to drain

    @property
    def is_alive(self) -> bool:
        """Whether its process still is that one."""
        return began(self.pid) == self.began

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process, to none that has its number since; nothing where it ended.

        Raises UnavailableError where the process is another user's.
        """
        try:
            held = os.pidfd_open(self.pid)  # what it names stays, whatever becomes of the number
        except ProcessLookupError:
            return
        try:
            if self.is_alive:
                signal.pidfd_send_signal(held, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise UnavailableError(
                f"`{self.name}`: process {self.pid} is another user's; that one may end it"
            ) from error
        finally:
            os.close(held)


def began(pid: int) -> str | None:
    """Return when a process began; None where there is none, or it waits for its parent to notice its end."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def read(folder: Path, name: str) -> Background | None:
    """Return what was started under this name, None where nothing was. Raises UnavailableError."""
    file = pid_file(folder, name)
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Background)
    except (OSError, msgspec.DecodeError) as error:
        raise UnavailableError(
            f"{file} cannot be read ({error}): it must be what `deploy up` wrote; end that server by its "
            "process, and remove the file"
        ) from error


def write(folder: Path, started: Background) -> None:
    """Keep what was started; the file is there whole or not at all."""
    file = pid_file(folder, started.name)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(asdict(started)))
    unfinished.replace(file)


def names_in(folder: Path) -> list[str]:
    """Return the names under which servers were started, sorted."""
    return [file.name.removesuffix(_PID_FILE) for file in sorted(folder.glob(f"*{_PID_FILE}"))]


def pid_file(folder: Path, name: str) -> Path:
    """Return the file of this name."""
    return folder / f"{name}{_PID_FILE}"


def state_dir(typed: str | None) -> Path:
    """Return where `deploy up` keeps what it must know later; `typed`: `target.state_dir`."""
    if typed:
        return typed_path(typed)
    return typed_path(f"{os.environ.get('XDG_STATE_HOME') or '~/.local/state'}/deployer")
