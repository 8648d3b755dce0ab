"""How many requests may be in flight so that those let in keep a latency (`server.target_*_ms`).

Places share the device, so what a request takes follows from how many there are; what they may be is found by
trying. The number doubles from a few, request by request watched, until a target is missed by one of twenty;
then it is cut in proportion. From there it grows by one where all places were taken and the targets were met
with room, and is cut again where they are not. Only requests that came in after the last change tell of it.
What `conf/server` says of each number (`server.target_*`) is not repeated here.
"""

import math
import time
from typing import Protocol

from deployer.config.schema import ServerConfig


class LatencyPlaces(Protocol):
    """Places that follow from what requests take."""

    @property
    def places(self) -> int:
        """How many requests may be in flight now."""
        ...

    def was_full(self) -> None:
        """Note that a request found no place."""
        ...

    def ended(self, *, entered_s: float, ttft_s: float | None, token_s: float | None) -> None:
        """Take what a request took; None: it had no first token, or none behind it."""
        ...


class LatencyLimit:
    """The places of one server. Invariant: 1 <= places <= most."""

    def __init__(self, server: ServerConfig) -> None:
        """Read the targets, to the first token and a further token; None: none of this kind."""
        ttft_ms, token_ms = server.target_ttft_ms, server.target_token_ms
        self._targets = tuple(None if one is None else one / 1e3 for one in (ttft_ms, token_ms))
        self._server = server
        self._most = server.max_requests
        self._places = float(min(server.target_first_places, self._most))
        self._doubles = True
        self._was_full = False
        self._changed_s = 0.0
        self._seen: list[float] = []  # of each request, the larger share of its targets

    @classmethod
    def of(cls, server: ServerConfig) -> "LatencyLimit | None":
        """Return the limit of a server; None where it has no target."""
        return cls(server) if has_target(server) else None

    @property
    def places(self) -> int:
        """How many requests may be in flight now."""
        return int(self._places)

    def was_full(self) -> None:
        """Note that a request found no place."""
        self._was_full = True

    def ended(self, *, entered_s: float, ttft_s: float | None, token_s: float | None) -> None:
        """Take what a request took; None: it had no first token, or none behind it."""
        pairs = zip((ttft_s, token_s), self._targets, strict=True)
        shares = [took / target for took, target in pairs if took is not None and target is not None]
        if not shares or entered_s < self._changed_s:
            return
        self._seen.append(max(shares))
        if len(self._seen) >= max(self._server.target_window, 2 * self.places):
            place = math.ceil(self._server.target_share * len(self._seen))
            self._judge(sorted(self._seen)[place - 1])

    def _judge(self, worst: float) -> None:
        if worst > 1:
            self._places = max(1.0, self._places * max(0.5, self._server.target_cut / worst))
            self._doubles = False
        elif self._was_full and worst < self._server.target_room:
            more = self._places if self._doubles else 1.0
            self._places = min(float(self._most), self._places + more)
        self._seen.clear()
        self._was_full = False
        self._changed_s = time.perf_counter()


def has_target(server: ServerConfig) -> bool:
    """Tell whether a server has a target, so that its places are found by trying."""
    return server.target_ttft_ms is not None or server.target_token_ms is not None
