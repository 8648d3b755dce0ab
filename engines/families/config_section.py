"""Reading an upstream config.json with typed getters that collect their faults, so that all are reported at
once.

A getter that meets a fault notes it and returns a harmless stand-in (1 for numbers), so reading goes on;
`raise_faults` ends it. Callers are the readers in `engines/families/`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from engines.errors import CheckpointError

Choice = TypeVar("Choice")
MOST = (1 << 31) - 1  # of an integer: no size of a network is larger


class ConfigSection:
    """One object of a config.json, the whole or a nested one."""

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        origin: str,
        path: str = "",
        faults: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """`folder`: where the checkpoint lies; None: config.json is all that is there."""
        self.values = values
        self.origin = origin
        self.folder = folder
        self._path = path
        self._faults: dict[str, str] = {} if faults is None else faults

    def nested(self, key: str) -> "ConfigSection":
        """Return the object under a key; its faults are collected with ours."""
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            self.fault(key, "must be an object")
            value = {}
        return self.made(key, value)

    def beside(self, file: str) -> "ConfigSection | None":
        """Return the object in another JSON file of the checkpoint; None where there is no such file.

        Its faults are collected with ours. Raises CheckpointError for a file that cannot be read.
        """
        path = None if self.folder is None else self.folder / file
        if path is None or not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {path} ({error}): must be JSON; fetch it again") from error
        if not isinstance(values, Mapping):
            raise CheckpointError(f"cannot read {path}: must hold an object; fetch it again")
        return ConfigSection(
            values, origin=self.origin, path=f"{file}: ", faults=self._faults, folder=self.folder
        )

    def made(self, key: str, values: Mapping[str, Any]) -> "ConfigSection":
        """Return an object that a key stands for, as the sizes of a tower that it names."""
        return ConfigSection(
            values, origin=self.origin, path=f"{self._path}{key}.", faults=self._faults, folder=self.folder
        )

    def fault(self, key: str, rule: str) -> None:
        """Note that the value of a key breaks a rule; the first fault of a key stands."""
        value = repr(self.values[key]) if key in self.values else "missing"
        shown = value if len(value) <= 60 else value[:57] + "..."
        self._faults.setdefault(self._path + key, f"`{self._path}{key}` is {shown}: {rule}")

    def raise_faults(self) -> None:
        """Raise CheckpointError with everything that was noted."""
        if self._faults:
            raise CheckpointError(f"{self.origin}: " + "; ".join(sorted(self._faults.values())))

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive integer; a key that is absent or null takes the default, if there is one."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
            self.fault(key, "must be a positive integer")
            return 1
        return value

    def integers(self, key: str, *, least: int = 1) -> tuple[int, ...]:
        """Return a list of integers, none below `least`; at least one."""
        value = self.values.get(key)
        if isinstance(value, list) and value and all(type(v) is int and least <= v <= MOST for v in value):
            return tuple(value)
        self.fault(key, f"must be a list of integers from {least} on")
        return (1,)

    def signed(self, key: str, default: int) -> int:
        """Return an integer of either sign."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(key, "must be an integer")
            return default
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            self.fault(key, "must be a positive number")
            return 1.0
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.fault(key, "must be true or false")
            return default
        return value

    def must_be(self, key: str, right: str | bool | float, *, why: str = "") -> None:
        """Hold a key to the one value that is read; it may be absent or null. `why` ends the message."""
        value = self.values.get(key)
        if value is not None and (value != right or isinstance(value, bool) != isinstance(right, bool)):
            shown = str(right).lower() if isinstance(right, bool) else right
            self.fault(key, f"must be {shown}{why and f': {why}'}")

    def choice(self, key: str, choices: Mapping[str, Choice], default: str) -> Choice:
        """Return what the value maps to; `choices` lists every value that is understood."""
        value = self.values.get(key)
        if value is None:
            value = default
        if not isinstance(value, str) or value not in choices:
            self.fault(key, f"must be one of {', '.join(sorted(choices))}")
            return choices[default]
        return choices[value]

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Return a list of `length` positive numbers."""
        value = self.values.get(key)
        good = isinstance(value, list) and len(value) == length
        if not good or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in value or ()
        ):
            self.fault(key, f"must be a list of {length} positive numbers")
            return (1.0,) * length
        return tuple(float(v) for v in value or ())
