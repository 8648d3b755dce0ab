"""`server.target_*_ms` over several processes: the parent judges what the requests of all of them took.

It keeps the one `LatencyLimit` and writes its places where all processes read them.
"""

from collections.abc import Callable
from typing import Self

from deployer.config.schema import ServerConfig
from deployer.serve.fronts.messages import FromFront, PlaceRefused, RequestEnded
from deployer.serve.fronts.shared_places import SharedPlaces
from deployer.serve.latency_limit import LatencyLimit


class FrontLatency:
    """The `LatencyPlaces` of a front."""

    def __init__(self, tell: Callable[[FromFront], None], shared: SharedPlaces) -> None:
        """`tell` sends to the parent."""
        self._tell = tell
        self._shared = shared

    @property
    def places(self) -> int:
        """How many requests may be in flight now, of all processes."""
        return self._shared.allowed

    def was_full(self) -> None:
        """Note that a request found no place."""
        self._tell(PlaceRefused())

    def ended(self, *, entered_s: float, ttft_s: float | None, token_s: float | None) -> None:
        """Take what a request took; None: it had no first token, or none behind it."""
        self._tell(RequestEnded(entered_s=entered_s, ttft_s=ttft_s, token_s=token_s))


class ParentLatency:
    """The limit that the parent keeps for all."""

    def __init__(self, limit: LatencyLimit, shared: SharedPlaces) -> None:
        self._limit = limit
        self._shared = shared
        shared.allowed = limit.places

    @classmethod
    def of(cls, server: ServerConfig, shared: SharedPlaces) -> Self | None:
        """Return the limit of a server; None where it has no target."""
        limit = LatencyLimit.of(server)
        return None if limit is None else cls(limit, shared)

    def take(self, said: PlaceRefused | RequestEnded) -> None:
        """Judge by what a front tells."""
        if isinstance(said, PlaceRefused):
            self._limit.was_full()
        else:
            self._limit.ended(entered_s=said.entered_s, ttft_s=said.ttft_s, token_s=said.token_s)
        self._shared.allowed = self._limit.places
