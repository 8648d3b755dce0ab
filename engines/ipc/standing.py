"""Where an engine stands: its state, since when and why, and when it should be back. Torch-free.

Owned by `engines/ipc/supervised.py`; the front end reads it to tell probes and clients the truth.
"""

import time
from collections.abc import Callable

from engines.engine import EngineState
from engines.ipc.restart_pace import RestartPace


class Standing:
    """The state of one engine over its lives."""

    def __init__(self, *, max_restarts: int, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self.state: EngineState = "starting"
        self.fault: str | None = None
        self.phase: str | None = None  # what a start is busy with
        self.num_restarts = 0
        self._pace = RestartPace(max_restarts=max_restarts)
        self._since = self._begun = time.monotonic()
        self._start_s: float | None = None  # how long the last start took
        self._back_at: float | None = None

    @property
    def state_s(self) -> float:
        """Seconds in this state."""
        return time.monotonic() - self._since

    @property
    def back_in_s(self) -> float | None:
        """Seconds until it should serve, by its last start; None where nobody knows."""
        return None if self._back_at is None else max(0.0, self._back_at - time.monotonic())

    def begin(self) -> None:
        """A process is being started now."""
        self._begun = time.monotonic()

    def enter_phase(self, phase: str) -> None:
        """Its start is busy with this."""
        self.phase = phase
        self._on_change()

    def serve(self) -> None:
        """It is ready."""
        self._start_s = time.monotonic() - self._begun
        self._enter("ready")

    def lose(self) -> float | None:
        """It died: return the seconds to wait before it is started again; None: it has died too often."""
        now = time.monotonic()
        wait_s = self._pace.next_wait_s(now)
        if wait_s is None:
            self.give_up()
            return None
        self.num_restarts += 1
        back_at = None if self._start_s is None else now + wait_s + self._start_s
        self._enter("restarting", back_at=back_at)
        return wait_s

    def give_up(self) -> None:
        """It does not come back."""
        self._enter("dead")

    def _enter(self, state: EngineState, *, back_at: float | None = None) -> None:
        if state != self.state:
            self.state, self._since = state, time.monotonic()
        self._back_at, self.phase = back_at, None
        self._on_change()
