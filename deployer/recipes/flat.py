"""A deployment as dotted keys and values, without secrets; and what differs between two of them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deployer.config.explain import HIDDEN, SECRET, leaves
from deployer.config.schema import DeployConfig

ABSENT = "(no such key)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """A key that has another value."""

    key: str
    old: Any
    new: Any
    where: str  # what set the new value; empty: not known


def public(config: DeployConfig) -> dict[str, Any]:
    """Return a deployment as nested plain values; secrets only say whether they are set."""
    values = asdict(config)
    for key in SECRET:
        group, _, name = key.partition(".")
        values[group][name] = [HIDDEN] if values[group][name] else []
    return values


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Moved]:
    """Yield each key whose value differs between two nested mappings, sorted."""
    before, after = dict(leaves(old)), dict(leaves(new))
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key, ABSENT), after.get(key, ABSENT)
        if was != now or type(was) is not type(now):
            yield Moved(key=key, old=was, new=now, where="")


def shown(value: Any) -> str:
    """Return a value as messages show it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
