"""The phases of an engine's start: each is named as it begins, and timed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StartPhases:
    """Names each phase of the start and times it."""

    def __init__(self, on_phase: Callable[[str], None]) -> None:
        self._on_phase = on_phase
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time what is done meanwhile; one that raises has no time."""
        self._on_phase(name)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
