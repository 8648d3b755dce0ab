"""What the front and a replica say to each other. Torch-free and Ray-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One HTTP request, whole."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    client: tuple[str, int] | None
    body: bytes
    key: bytes | None  # of `affinity.py`
    avoid: tuple[str, ...]  # replicas that have failed it


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The first thing a replica answers; pieces of the body follow as bytes."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    replica: str
