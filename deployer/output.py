"""`output=json` and `output=table`, for every verb that prints data."""

from collections.abc import Sequence
from typing import Literal

from deployer.config.suggest import quoted
from deployer.errors import UsageError

Output = Literal["table", "json"]


def take_output(words: Sequence[str]) -> tuple[Output, list[str]]:
    """Return the form that was asked for, and the other words. Raises UsageError unless it is one."""
    asked = [word for word in words if word.startswith("output=")]
    unknown = [word for word in asked if word not in ("output=json", "output=table")]
    if unknown:
        raise UsageError(f"`{unknown[0]}`: unknown form; use output=json or output=table")
    if len(asked) > 1:
        raise UsageError(f"{quoted(asked)}: the form is given {len(asked)} times; keep one of them")
    rest = [word for word in words if word not in asked]
    return ("json" if asked == ["output=json"] else "table"), rest
