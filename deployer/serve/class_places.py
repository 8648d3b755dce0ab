"""Places of a server by class of service: who is owed how many, and who may have one more."""

from collections.abc import Mapping, Sequence

from deployer.config.schema import QosClass, ServerConfig


class ClassPlaces:
    """The classes of one server: places held and places owed but free are at most all places."""

    def __init__(self, classes: Sequence[QosClass], *, default: str | None, max_requests: int) -> None:
        self._classes = {one.name: one for one in classes}
        self._default = default
        self._max_requests = max_requests
        self._owed = {one.name: int(one.share * max_requests) for one in classes}

    @classmethod
    def of(cls, server: ServerConfig) -> "ClassPlaces":
        """Return the places of a server."""
        return cls(server.qos, default=server.qos_default, max_requests=server.max_requests)

    @property
    def names(self) -> tuple[str, ...]:
        """Every class; none where all requests are equal."""
        return tuple(self._classes)

    def name_of(self, asked: str | None) -> str | None:
        """Return the class of a request whose key asks for one or none; None where there are no classes."""
        return asked or self._default

    def place_of(self, name: str | None) -> tuple[int, int]:
        """Return the number and the priority of a class as the engine takes them."""
        if name is None:
            return 0, 0
        return tuple(self._classes).index(name), self._classes[name].priority

    def refusal(self, name: str | None, by_class: Mapping[str, int]) -> str | None:
        """Return why a request of a class cannot come in now, where that is for its class.

        `by_class`: places that are held.
        """
        if name is None:
            return None
        held, limit = by_class[name], self._classes[name].max_requests
        if limit is not None and held >= limit:
            return f"{held} requests of class `{name}` are in flight, server.qos allows it {limit}"
        if held < self._owed[name]:
            return None
        kept = sum(max(self._owed[other] - by_class[other], 0) for other in self._classes)
        if sum(by_class[other] for other in self._classes) + kept < self._max_requests:
            return None
        return (
            f"{held} requests of class `{name}` are in flight, and server.qos keeps the {kept} places that "
            "are left for other classes"
        )
