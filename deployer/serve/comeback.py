"""When a client whose request cannot be taken now should come back."""

import math
from typing import Protocol

from engines.engine import EngineState

LONGEST_START_WAIT_S = 60
SHORTEST_DEAD_WAIT_S = 60
LONGEST_DEAD_WAIT_S = 3600


class Outage(Protocol):
    """What is known of an engine that is away."""

    @property
    def state(self) -> EngineState:
        """Whether sequences are taken now."""
        ...

    @property
    def state_s(self) -> float:
        """Seconds in this state."""
        ...

    @property
    def back_in_s(self) -> float | None:
        """Seconds until it should serve again; None where nobody knows."""
        ...


def retry_after_s(engine: Outage) -> int:
    """Return whole seconds for the Retry-After header.

    Where nobody knows: as long again as it has been away. An engine that was given up comes back by hand
    only: a minute at least, and ever more.
    """
    if engine.state == "dead":
        return min(LONGEST_DEAD_WAIT_S, max(SHORTEST_DEAD_WAIT_S, math.ceil(engine.state_s)))
    expected_s = engine.back_in_s or engine.state_s
    return min(LONGEST_START_WAIT_S, max(1, math.ceil(expected_s)))
