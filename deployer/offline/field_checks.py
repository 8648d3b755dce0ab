"""Checks of mappings that somebody wrote in Python; every message names the field."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deployer.config.suggest import quoted
from engines.errors import RequestError


def no_others(value: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    """Raise RequestError for keys that are not known."""
    others = sorted(str(key) for key in value if key not in known and value[key] is not None)
    if others:
        raise RequestError(f"{at}: unknown {quoted(others)}: known are {quoted(sorted(known))}")


def check_counts(value: Mapping[str, Any], keys: Iterable[str], at: str) -> None:
    """Raise RequestError for a value that is there and no whole number of at least 1."""
    for key in keys:
        count = value.get(key)
        if count is not None and (type(count) is not int or count < 1):
            raise RequestError(f"{at}.{key}={count!r}: must be a whole number of at least 1")


def named(value: object) -> str:
    """Return what a value is, for messages."""
    return "missing" if value is None else f"a {type(value).__name__}"
