"""How many requests are in flight, and whether another may come in; `admission_gate.py` holds requests to it.

A draining server takes no new work, its health and metrics stay readable.
"""

import asyncio
import math
import time

from deployer.serve.api_errors import ApiFault
from deployer.serve.class_places import ClassPlaces
from deployer.serve.held_places import HeldPlaces, OwnPlaces
from deployer.serve.latency_limit import LatencyPlaces

_SHUT_DOWN = ApiFault(
    status=503,
    message="the server is shutting down and takes no requests any more",
    code="shutting_down",
    headers={"retry-after": "5", "connection": "close"},
)


class Admission:
    """Counts the requests in flight. Invariant: 0 <= in_flight <= held.total <= max_requests."""

    def __init__(
        self,
        max_requests: int,
        classes: ClassPlaces | None = None,
        *,
        latency: LatencyPlaces | None = None,
        held: HeldPlaces | None = None,
    ) -> None:
        """`classes`: None where all requests are equal; `latency`: None where no target bounds the places.

        `held`: the places that several processes share; None: this one has all of them.
        """
        self.max_requests = max_requests
        self.latency = latency
        self.classes = classes or ClassPlaces((), default=None, max_requests=max_requests)
        self.held = held or OwnPlaces()
        self.in_flight = 0  # of this process
        self._ends = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.requests: set[asyncio.Task[object]] = set()  # what `drop` cancels
        self._dropped = False
        self._mean_s = 1.0  # running mean of how long a request takes

    def refusal(self, qos: str | None = None) -> ApiFault | None:
        """Return why another request cannot come in now; `qos` is its class, None: of no class."""
        if self.draining:
            return _SHUT_DOWN
        full, total = self.classes.refusal(qos, self.held.by_class), self.held.total
        if total >= self.places:
            full = f"{total} requests are in flight, {self._rule()}"
        if full is None:
            return None
        return ApiFault(
            status=429,
            message=f"{full}: come back after the time in the Retry-After header",
            code="queue_full",
            headers={"retry-after": str(self.retry_after_s())},
        )

    @property
    def draining(self) -> bool:
        """Whether no new request is let in: the server ends, or an operator wants it so."""
        return self._ends or self.held.paused

    @property
    def places(self) -> int:
        """How many requests may be in flight now."""
        return self.max_requests if self.latency is None else self.latency.places

    def _rule(self) -> str:
        if self.places == self.max_requests:
            return f"`server.max_requests` allows {self.max_requests}"
        return f"more than {self.places} would miss `server.target_ttft_ms` or `server.target_token_ms`"

    def retry_after_s(self) -> int:
        """Return whole seconds until a place is likely free: mean time of a request over places."""
        return min(60, max(1, math.ceil(self._mean_s / self.places)))

    def try_enter(self, qos: str | None = None) -> float | ApiFault:
        """Take a place where there is one, and return when; else why there is none."""
        with self.held.alone():
            refusal = self.refusal(qos)
            return self.enter(qos) if refusal is None else refusal

    def enter(self, qos: str | None = None) -> float:
        """Take a place, in a class where there are any; returns when."""
        self.in_flight += 1
        self.held.change(1, qos)
        self._idle.clear()
        return time.perf_counter()

    def leave(self, entered_s: float, qos: str | None = None) -> None:
        """Give the place back."""
        self.in_flight -= 1
        with self.held.alone():
            self.held.change(-1, qos)
        self._mean_s += 0.1 * (time.perf_counter() - entered_s - self._mean_s)
        if self.in_flight == 0:
            self._idle.set()

    async def drain(self, limit_s: float) -> bool:
        """Refuse new requests and wait for those of this process; False: some still run after `limit_s`."""
        self._ends = True
        try:
            await asyncio.wait_for(self._idle.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    def drop(self) -> None:
        """Cancel what is in flight: who has no answer yet gets a 503."""
        self._dropped = True
        for request in self.requests:
            request.cancel()

    def dropped(self) -> ApiFault | None:
        """Return what a cancelled request is answered, where it was dropped."""
        return _SHUT_DOWN if self._dropped else None
