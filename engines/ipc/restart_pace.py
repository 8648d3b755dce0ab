"""How soon a process that dies is started again: each restart of late doubles the wait. Torch-free.

Used by `engines/ipc/standing.py` for the engine and by `deployer/serve/fronts/crew.py` for server processes.
"""

from collections import deque

RESTART_WINDOW_S = 600.0  # restarts longer ago no longer count
LONGEST_WAIT_S = 60.0


class RestartPace:
    """The restarts of one process within the window: at once, then after 1, 2, 4, ... 60 s."""

    def __init__(self, *, max_restarts: int | None = None) -> None:
        """`max_restarts`: how many the window may hold; None: any number."""
        self._max_restarts = max_restarts
        self._restarts: deque[float] = deque()  # when, within the window

    def next_wait_s(self, now: float) -> float | None:
        """Count a restart at `now`, a monotonic time: return the seconds to wait before it.

        None, and not counted, where the window holds `max_restarts` already.
        """
        while self._restarts and now - self._restarts[0] > RESTART_WINDOW_S:
            self._restarts.popleft()
        num_earlier = len(self._restarts)
        if num_earlier == self._max_restarts:
            return None
        self._restarts.append(now)
        return 0.0 if num_earlier == 0 else min(2.0 ** (num_earlier - 1), LONGEST_WAIT_S)
