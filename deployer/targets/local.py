"""`deploy up`, `status` and `down` with `target=local`: a server in the background, and its log."""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from deployer.config.schema import DeployConfig
from deployer.config.targets import LocalTarget
from deployer.errors import UnavailableError, UsageError
from deployer.refused_write import writing
from deployer.targets import background
from deployer.targets.background import Background
from deployer.targets.needs import ABORT_S

WAIT_S = 0.2  # between two looks
TIMEOUT_S = 5.0  # of one question
LINES_TOLD = 12  # of the log, where a start fails


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is known of a deployment that runs somewhere."""

    name: str
    state: str  # ready, starting, restarting, draining, dead, full, silent, gone, none, unreadable
    detail: str


def up(config: DeployConfig) -> Standing:
    """Start the server and wait until it is ready; Ctrl-C leaves it starting, and says so.

    Raises UnavailableError where it runs already or ends before it is ready.
    """
    folder, name = _folder(config), _name(config)
    with _only_one(folder / f"{name}.lock"):
        running = background.read(folder, name)
        if running is not None and running.is_alive:
            raise UnavailableError(
                f"`{name}` runs already: process {running.pid}, {running.url}; `deploy down` ends it, "
                "target.name=<other> starts a second one"
            )
        started = _start(config, folder, name)
    print(f"starting {name}, process {started.pid}, log {started.log}", file=sys.stderr)
    try:
        return _when_ready(started)
    except KeyboardInterrupt:
        print(
            f"`{name}` goes on starting as process {started.pid}: `deploy status` tells how far it is, "
            f"`deploy down target.name={name}` ends it",
            file=sys.stderr,
        )
        raise


def _when_ready(started: Background) -> Standing:
    """Wait for the process that was started, whatever its pid file says since. Raises UnavailableError."""
    while (standing := _asked(started)).state != "ready":
        if standing.state in ("gone", "dead"):
            print(_tail(started), file=sys.stderr)
            raise UnavailableError(
                f"`{started.name}` ended before it was ready; the end of its log stands above, "
                f"all in {started.log}"
            )
        time.sleep(WAIT_S)
    return standing


def status(config: DeployConfig) -> Standing:
    """Return how the server of this name is."""
    return _standing(_folder(config), _name(config))


def all_in(state_dir: str | None, *, name: str | None) -> list[Standing]:
    """Return how each server is that `deploy up` started with this `target.state_dir`; `name`: one alone.

    A pid file that cannot be read is told of in its place and hides no other.
    """
    folder = background.state_dir(state_dir)
    return [_told(folder, one) for one in background.names_in(folder) if name in (None, one)]


def _told(folder: Path, name: str) -> Standing:
    try:
        return _standing(folder, name)
    except UnavailableError as error:
        return Standing(name=name, state="unreadable", detail=str(error))


def _standing(folder: Path, name: str) -> Standing:
    known = background.read(folder, name)
    if known is None:
        return Standing(name=name, state="none", detail="`deploy up` has started none of this name")
    return _asked(known)


def _asked(known: Background) -> Standing:
    """Ask a server that was started how it is."""
    if not known.is_alive:
        return Standing(
            name=known.name, state="gone", detail=f"process {known.pid} has ended; log {known.log}"
        )
    where = f"process {known.pid}, {known.url}, log {known.log}"
    try:
        # NOTE: certificates are not checked: this is our own process, asked whether it is there.
        answer = httpx.get(f"{known.url}/health", timeout=TIMEOUT_S, verify=False)
        state = str(answer.json()["status"])
    except httpx.ReadTimeout:  # it listens, so it is past the beginning of its start
        state, where = "silent", f"no answer within {TIMEOUT_S:g} s: {where}"
    except (httpx.HTTPError, ValueError, KeyError):
        state = "starting"
    return Standing(name=known.name, state=state, detail=where)


def down(config: DeployConfig) -> Standing:
    """End the server: it drains, and is killed where it outlives its time."""
    return _end(_folder(config), _name(config))


def down_in(state_dir: str | None, *, name: str | None) -> list[Standing]:
    """End the one server that runs with this `target.state_dir`, or that of this name.

    Pid files of servers that have ended are removed. Raises UsageError where several run and none is named.
    """
    folder = background.state_dir(state_dir)
    names = [one for one in background.names_in(folder) if name in (None, one)]
    running = [one for one in names if (known := background.read(folder, one)) is not None and known.is_alive]
    if name is None and len(running) > 1:
        raise UsageError(
            f"`deploy down`: {len(running)} servers run here ({', '.join(running)}): one is ended at a time; "
            f"say which, as target.name={running[0]}"
        )
    return [_end(folder, one) for one in names]


def _end(folder: Path, name: str) -> Standing:
    with _only_one(folder / f"{name}.lock"):
        known = background.read(folder, name)
        how = None if known is None or not known.is_alive else _stop(known)
        background.pid_file(folder, name).unlink(missing_ok=True)
    return Standing(name=name, state="none", detail=how or "no such server runs")


def _stop(running: Background) -> str:
    """End a process, and return how that went."""
    running.signal(signal.SIGTERM)
    deadline = time.monotonic() + running.stop_s
    while running.is_alive and time.monotonic() < deadline:
        time.sleep(WAIT_S)
    killed = running.is_alive
    if killed:
        running.signal(signal.SIGKILL)
    how = f"killed after {running.stop_s:g} s" if killed else "drained and ended"
    return f"process {running.pid} {how}"


def _start(config: DeployConfig, folder: Path, name: str) -> Background:
    if config.server.port == 0:
        raise UnavailableError("server.port=0: `deploy up` must know where to ask; choose a port")
    from deployer.serve.listen import bind  # uvicorn comes with it: only a start needs that

    bind(config.server).close()  # else whoever listens there already would be taken for the new server
    log = folder / f"{name}.log"
    pid = _spawn(msgspec.json.encode(config), log)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.server.host, config.server.host)
    scheme = "http" if config.server.ssl_certfile is None else "https"
    started = Background(
        name=name,
        pid=pid,
        began=background.began(pid) or "",
        url=f"{scheme}://{host}:{config.server.port}",
        log=str(log),
        stop_s=config.server.drain_s + ABORT_S,
    )
    background.write(folder, started)
    return started


def _spawn(config: bytes, log: Path) -> int:
    """Start the server in a session of its own, which no closed terminal ends; returns its process.

    The config goes through a pipe: a key of it stands neither in a file nor in a list of processes.
    """
    reading, writing = os.pipe()
    with log.open("wb") as out:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "deployer.serve.own_server"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, out.fileno(), 2),
            ],
            setsid=True,
        )
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
        pipe.write(config)  # broken: it ended at once, and `up` reads its log
    return pid


def _name(config: DeployConfig) -> str:
    return config.target.name or config.model.name


def _folder(config: DeployConfig) -> Path:
    assert isinstance(config.target, LocalTarget), "chosen by its kind"
    folder = background.state_dir(config.target.state_dir)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextlib.contextmanager
def _only_one(lock: Path) -> Generator[None, None, None]:
    """Let one command at a time start or end a server of this name."""
    with writing(lock):
        held = lock.open("w")
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _tail(started: Background) -> str:
    lines = Path(started.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LINES_TOLD:])
