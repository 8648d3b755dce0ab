"""`output=json` and `output=table`, for every verb that prints data."""

from collections.abc import Sequence
from typing import Literal

from deployer.errors import UsageError

Output = Literal["table", "json"]


def take_output(words: Sequence[str]) -> tuple[Output, list[str]]:
    """Return the form that was asked for, and the other words. Raises UsageError for an unknown form."""
    output: Output = "table"
    rest = []
    for word in words:
        if not word.startswith("output="):
            rest.append(word)
        elif word == "output=json":
            output = "json"
        elif word == "output=table":
            output = "table"
        else:
            raise UsageError(f"`{word}`: unknown form; use output=json or output=table")
    return output, rest
