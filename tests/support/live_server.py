"""`deploy` as a user starts it: a process of its own, on a free port, read up to its `ready` line."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx

COMMAND = (sys.executable, "-c", "import sys; from deployer.cli import main; sys.exit(main())")
START_S = 120.0


@dataclass
class LiveServer:
    """A running `deploy`."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)  # standard output and error so far

    def engine_pid(self) -> int | None:
        """Return the engine process that works for this server now."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:  # it ended while we looked
                    continue
                if b"engines.ipc.process" in words and str(self.process.pid).encode() in words:
                    return int(folder.name)
        return None

    def figure(self, name: str) -> float | None:
        """Return one sample of /metrics; None before the engine's first figures."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return None

    def wait_for(self, figure: str, value: float, *, seconds: float = 10.0) -> None:
        """Wait until a sample of /metrics has a value."""
        deadline = time.monotonic() + seconds
        while self.figure(figure) != value:
            assert time.monotonic() < deadline, f"{figure} is {self.figure(figure)}, not {value}"
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 20.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def live_server(
    *words: str,
    command: Sequence[str] = COMMAND,
    before: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    own_session: bool = False,
) -> Generator[LiveServer, None, None]:
    """Run `deploy WORDS server.port=0`, or another command; yields when it is ready, and ends it.

    `environment` is added to ours; OMP_NUM_THREADS="" leaves the engine as many threads as it chooses.
    With a session of its own no signal to our group reaches it.
    """
    process = start(
        *words,
        "server.port=0",
        command=(*before, *command),
        environment=environment,
        own_session=own_session,
    )
    server = LiveServer(process)
    arrived: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, server.lines, arrived), daemon=True).start()
    try:
        deadline = time.monotonic() + START_S
        while not server.url:
            line = arrived.get(timeout=deadline - time.monotonic())
            assert line is not None, "the server ended:\n" + "".join(server.lines)
            if line.startswith("ready "):
                server.url = line.split()[1]
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def start(
    *words: str,
    command: Sequence[str] = COMMAND,
    environment: Mapping[str, str] = MappingProxyType({}),
    own_session: bool = False,
) -> subprocess.Popen[str]:
    """Start `deploy WORDS`, both outputs in one pipe."""
    around = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        (*command, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_session,
        env={name: value for name, value in around.items() if value},
    )


def _read(process: subprocess.Popen[str], lines: list[str], arrived: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None, "it is a pipe"
    try:
        for line in process.stdout:
            lines.append(line)
            arrived.put(line)
    except ValueError:  # the pipe was closed: the test is over
        pass
    arrived.put(None)
