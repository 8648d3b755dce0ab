"""The words of a sweep, taken apart: what every point has, and the axes along which points differ.

The grammar is Hydra's: `key=a,b`, `key=choice(a,b)`, `key=range(1,9,2)`, `+model=glob(internvl2_*)`, and
for a search `key=interval(0.5,0.9)`, `key=int(interval(1,64))`, `key=tag(log,interval(1,64))`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from deployer.config.suggest import quoted
from deployer.config.tree import ConfigTree
from deployer.config.words import is_recipe_file
from deployer.errors import ConfigError

_MOST = 100_000  # points of a grid, and values of a key; more were a slip of the keyboard
# What a point can't set: a sweep starts its own engines, reads their reports, and keeps its words in a file.
_REFUSED = {
    "bench.url": "a sweep measures engines that it starts",
    "bench.model_name": "goes with bench.url, and a sweep measures engines that it starts",
    "bench.api_key": "goes with bench.url, and a sweep measures engines that it starts",
    "bench.output": "a sweep reads the reports itself; for its own form write output=json",
    "server.api_keys": "is kept in no file of a sweep, and no point is asked from outside",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    is_log: bool  # drawn evenly over the logarithm
    is_int: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A key that takes several values."""

    key: str  # as typed, a `+` included
    values: tuple[str, ...]  # as on a command line; empty where it is an interval
    interval: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """Everything a sweep may try."""

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]

    def grid(self) -> Iterator[tuple[str, ...]]:
        """Yield the words of every combination, the last axis turning fastest."""
        assert all(axis.interval is None for axis in self.axes), "refuse_intervals was asked"
        for values in product(*(axis.values for axis in self.axes)):
            yield tuple(f"{axis.key}={value}" for axis, value in zip(self.axes, values, strict=True))

    @property
    def num_combinations(self) -> int:
        """Points of the grid."""
        number = 1
        for axis in self.axes:
            number *= len(axis.values)
        return number


def read_space(words: Sequence[str], tree: ConfigTree) -> Space:
    """Take the words of a sweep apart. Raises ConfigError with every word that can't be swept."""
    parser = OverridesParser.create()
    fixed: list[str] = []
    axes: list[Axis] = []
    faults: list[str] = []
    for word in words:
        try:
            axis = _axis(parser.parse_override(word), word, tree) if "=" in word else None
        except (HydraException, ValueError):
            axis = None  # composing says what is wrong with it
        except ConfigError as error:
            faults.extend(error.faults)
            continue
        if axis is None:
            fixed.append(word)
        else:
            axes.append(axis)
    faults += _key_faults([*fixed, *(axis.key for axis in axes)])
    if not axes and not faults:
        faults.append(
            "a sweep needs a key with several values, as engine.max_batch_size=32,64; "
            "for one deployment: deploy bench ..."
        )
    if faults:
        raise ConfigError(faults)
    return Space(fixed=tuple(fixed), axes=tuple(axes))


def refuse_intervals(space: Space) -> None:
    """Raise ConfigError where a grid can't be laid over the space."""
    faults = [
        f"`{axis.key}=interval(...)`: has no end of values, a grid takes a list; "
        "write a,b or range(a,b,step), or choose sweep=optuna"
        for axis in space.axes
        if axis.interval is not None
    ]
    if not faults and space.num_combinations > _MOST:
        faults = [
            f"the grid has {space.num_combinations:,} points, at most {_MOST:,} are taken; use sweep=optuna"
        ]
    if faults:
        raise ConfigError(faults)


def _axis(parsed: Override, word: str, tree: ConfigTree) -> Axis | None:
    """Return the axis that a word spells; None where it gives one value. Raises ConfigError."""
    if not parsed.is_sweep_override():
        return None
    key, value = parsed.get_key_element(), parsed.value()
    if isinstance(value, IntervalSweep):
        return Axis(key=key, values=(), interval=_interval(value, word))
    if isinstance(value, Glob):
        values = tuple(value.filter(tree.options(parsed.key_or_group)))
        if not values:
            options = quoted(tree.options(parsed.key_or_group)) or "none, as it is no group"
            raise ConfigError([f"`{word}`: matches no option; options of {parsed.key_or_group}: {options}"])
    elif isinstance(value, RangeSweep):
        some = islice(value.range(), _MOST + 1)  # a range of billions would fill the memory
        values = tuple(f"{float(one):.12g}" if "." in str(one) else str(one) for one in some)
    else:
        values = tuple(parsed.sweep_string_iterator())
    if not values:
        raise ConfigError([f"`{word}`: holds no value; the end of a range is left out"])
    if len(values) > _MOST:
        raise ConfigError([f"`{word}`: has more than {_MOST:,} values; widen its step, or use sweep=optuna"])
    if len(set(values)) != len(values):
        raise ConfigError([f"`{word}`: gives a value twice; name each once"])
    return Axis(key=key, values=values, interval=None)


def _interval(sweep: IntervalSweep, word: str) -> Interval:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not low < high:
        raise ConfigError([f"`{word}`: must rise, as interval(0.5,0.9)"])
    is_log = "log" in sweep.tags
    if sweep.tags - {"log"}:
        raise ConfigError([f"`{word}`: the one tag that is read is log"])
    if is_log and low <= 0:
        raise ConfigError([f"`{word}`: a logarithm needs numbers above 0"])
    # `int(interval(a,b))` casts its ends, and so is told from `interval(1.0,9.0)` by their type.
    is_int = isinstance(low, int) and isinstance(high, int)
    return Interval(low=float(low), high=float(high), is_log=is_log, is_int=is_int)


def _key_faults(words: Sequence[str]) -> list[str]:
    found: dict[str, str] = {}
    faults = []
    for word in words:
        key = re.split("=", word.lstrip("+"), maxsplit=1)[0]
        if key in _REFUSED:
            faults.append(f"`{key}`: {_REFUSED[key]}")
        if key in found and not is_recipe_file(word):
            faults.append(f"`{key}`: is given twice; name it once")
        found[key] = word
    return faults
