"""Plain values -> frozen dataclasses, strictly; every fault of the tree in one error.

Nothing is converted but a whole number to a float. Unknown keys, missing values, wrong types and bad choices
name the value, where it was set, the rule and the way out.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from deployer.config.arms import arm_for, arms_of, kinds_of
from deployer.config.old_names import replacement
from deployer.config.origins import Origins
from deployer.config.suggest import near, quoted, way_out
from deployer.config.unbuilt import Unbuilt
from deployer.errors import ConfigError

Built = TypeVar("Built")

MISSING = "???"
UNBUILT = Unbuilt()
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def build(kind: type[Built], values: Mapping[str, Any], origins: Origins, *, at: str = "") -> Built:
    """Return the dataclass that the values spell; `at` is their key. Raises ConfigError with every fault."""
    built, faults = build_what_holds(kind, values, origins, at=at)
    if faults:
        raise ConfigError(faults)
    return built


def build_what_holds(
    kind: type[Built], values: Mapping[str, Any], origins: Origins, *, at: str = ""
) -> tuple[Built, list[str]]:
    """Return the dataclass with an `Unbuilt` for each value at fault, and the faults."""
    builder = _Builder(origins)
    built = builder.dataclass(kind, values, at)
    assert isinstance(built, kind), "a mapping is built, whatever its values are"
    return built, builder.faults


class _Builder:
    """One walk over the tree; collects faults instead of stopping at the first."""

    def __init__(self, origins: Origins) -> None:
        self.faults: list[str] = []
        self._origins = origins

    def dataclass(self, kind: type[Any], values: Any, at: str) -> Any:
        if not isinstance(values, Mapping):
            return self._fault(
                at, values, f"is a group of keys: {quoted(field.name for field in fields(kind))}"
            )
        hints = get_type_hints(kind)
        for name in sorted(str(name) for name in values.keys() - hints.keys()):
            self._unknown(at, name, hints, values.get(name))
        built = {}
        for name, hint in hints.items():
            key = _join(at, name)
            if name not in values or values[name] == MISSING:
                built[name] = self._missing(key, hint)
            else:
                built[name] = self._value(hint, values[name], key)
        return kind(**built)

    def _value(self, hint: Any, value: Any, at: str) -> Any:
        if is_dataclass(hint):
            assert isinstance(hint, type), "a hint is a class"
            return self.dataclass(hint, value, at)
        origin = get_origin(hint)
        if len(arms_of(hint)) > 1:
            return self._one_of(hint, value, at)
        if origin in (Union, UnionType):
            return None if value is None else self._value(_not_none(hint), value, at)
        if origin is Literal:
            return self._choice(get_args(hint), value, at)
        if origin is list:
            return self._list(get_args(hint)[0], value, at)
        if origin is dict:
            return self._mapping(value, at)
        return self._scalar(hint, value, at)

    def _one_of(self, hint: Any, value: Any, at: str) -> Any:
        """Build the group that its `kind` names."""
        arm = arm_for(hint, value)
        if arm is not None:
            return self.dataclass(arm, value, at)
        kind = value.get("kind", MISSING) if isinstance(value, Mapping) else MISSING
        if kind == MISSING:
            return self._fault(at, value, f"is a group of keys; choose an option with {at}=<name>")
        return self._choice(kinds_of(hint), kind, f"{at}.kind")

    def _scalar(self, hint: Any, value: Any, at: str) -> Any:
        if hint is Any:
            return self._anything(value, at)
        if self._misread(value, at, wants_text=hint is str):
            return UNBUILT
        if hint is float and type(value) in (int, float):
            return float(value) if math.isfinite(value) else self._fault(at, value, "must be a finite number")
        if type(value) is hint:
            return value
        whole = hint is int and isinstance(value, float) and value.is_integer()
        return self._fault(at, value, f"must be {_NAMES[hint]}", f"write {int(value)}" if whole else "")

    def _choice(self, choices: tuple[Any, ...], value: Any, at: str) -> Any:
        written = self._written(value, at)
        if written in choices and self._misread(value, at, wants_text=True):
            return UNBUILT
        if value in choices:
            return value
        value = written or value  # no quotes would make a choice of it
        close = near(str(value), map(str, choices), limit=1)
        return self._fault(
            at,
            value,
            f"must be one of {quoted(sorted(choices))}",
            f"nearest: {quoted(close)}" if close else "",
        )

    def _list(self, hint: Any, value: Any, at: str) -> Any:
        if not isinstance(value, list):
            return self._fault(at, value, "must be a list", f"write [{'' if value is None else value}]")
        return [self._value(hint, item, f"{at}[{i}]") for i, item in enumerate(value)]

    def _mapping(self, value: Any, at: str) -> Any:
        if not isinstance(value, Mapping):
            return self._fault(at, value, "must be a mapping of keys to values")
        self._undeclared(at)
        return {str(name): self._anything(inner, f"{at}.{name}") for name, inner in value.items()}

    def _anything(self, value: Any, at: str) -> Any:
        """Return a value of an open mapping; a number that YAML misread is a fault here too."""
        if isinstance(value, Mapping):
            return {str(name): self._anything(inner, f"{at}.{name}") for name, inner in value.items()}
        if isinstance(value, list):
            return [self._anything(item, f"{at}[{i}]") for i, item in enumerate(value)]
        if value == MISSING:
            return self._missing(at, Any)
        self._misread(value, at, wants_text=False)
        return value

    def _undeclared(self, at: str) -> None:
        """Report flags that would add to an open mapping by mistake; `+at.key=x` and `at={...}` are meant."""
        names = [name.removeprefix(f"{at}.") for name in self._origins.settings if name.startswith(f"{at}.")]
        first = {name: self._origins.settings[f"{at}.{name}"][0] for name in names}
        known = [name for name in names if first[name].flag is None]
        for name, setting in first.items():
            if setting.flag is not None and setting.flag.startswith(f"{at}."):
                close = near(name, known)
                out = (
                    way_out(name, close, kind="keys", prefix=f"{at}.")
                    if close
                    else f"see `deploy explain {at}`; +{setting.flag} adds it"
                )
                self.faults.append(f"unknown key `{at}.{name}` ({setting.where}): {out}")

    def _misread(self, value: Any, at: str, *, wants_text: bool) -> bool:
        """Report an unquoted scalar that YAML took for something else; tell whether it was one."""
        text = self._written(value, at)
        if not text:
            return False
        surprising = _is_surprising(text, value)
        if not wants_text and not surprising:
            return False
        read_as = str(value).lower() if isinstance(value, bool) else f"the number {value}"
        name = at.rpartition(".")[2]
        setting = self._origins.settings[at][-1]
        quote = f"{name}: '{text}'" if setting.flag is None else f"{at}=\"'{text}'\""
        number = (
            f", for a number write {value}" if surprising and not wants_text and math.isfinite(value) else ""
        )
        self.faults.append(
            f"{at}={text} ({setting.where}): is read as {read_as}; for text quote it: {quote}{number}"
        )
        return True

    def _written(self, value: Any, at: str) -> str | None:
        """Return an unquoted scalar as it is written where YAML read something else than text."""
        settings = self._origins.settings.get(at)
        if not settings or not settings[-1].plain or isinstance(value, str) or value is None:
            return None
        text = settings[-1].text
        return None if "${" in text else text

    def _unknown(self, at: str, name: str, known: Mapping[str, Any], value: Any) -> None:
        key = _join(at, name)
        today = replacement(key, value)
        if today is not None:
            self.faults.append(f"{key}={value} ({self._origins.where(key)}): {today}")
            return
        elsewhere = [
            found for found in self._origins.settings if found.rpartition(".")[2] == name and found != key
        ]
        if elsewhere and not near(name, known):
            out = f"there is {quoted(elsewhere)}"
        else:
            out = way_out(name, known, kind="keys", prefix=_join(at, ""))
        self.faults.append(f"unknown key `{key}` ({self._origins.where(key)}): {out}")

    def _missing(self, key: str, hint: Any) -> Unbuilt:
        setting = self._origins.settings.get(key)
        where = f" ({setting[-1].where})" if setting else ""
        self.faults.append(f"missing `{key}`{where}: {_how_to_set(key, hint)}")
        return UNBUILT

    def _fault(self, at: str, value: Any, rule: str, way: str = "") -> Unbuilt:
        shown = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
        tail = f"; {way}" if way else ""
        self.faults.append(f"{at}={shown} ({self._origins.where(at)}): {rule}{tail}")
        return UNBUILT


def _how_to_set(key: str, hint: Any) -> str:
    if arms_of(hint):
        return f"choose an option with {key}=<name>; `deploy list {key}` shows them"
    null = " or null" if get_origin(hint) in (Union, UnionType) else ""
    hint = _not_none(hint)
    if get_origin(hint) is Literal:
        return f"set {key} to one of {quoted(sorted(get_args(hint)))}{null}"
    return f"set {key}=<{_NAMES.get(hint, 'value')}>{null}"


def _not_none(hint: Any) -> Any:
    """Return X of X or X | None, which is all that the schema holds."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    (inner,) = (arm for arm in get_args(hint) if arm is not NoneType)
    return inner


def _is_surprising(text: str, value: Any) -> bool:
    """Tell whether YAML 1.1 reads a number where most people see none: 012, 4:3, 1e999."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    infinite = not math.isfinite(value) and "inf" not in text.lower() and "nan" not in text.lower()
    return infinite or ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text) is not None


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
