"""Command-line words as typed overrides: what is wrong with them is said here, in our words.

A key that names a group chooses an option (`engine=pytorch`, `+model=x` and `model=x` alike); any other key
sets a value.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from deployer.config.old_names import today
from deployer.config.repositories import options_by_repository
from deployer.config.suggest import MOST_SHOWN, quoted, way_out
from deployer.config.tree import ConfigTree
from deployer.errors import ConfigError, UsageError

# option: chooses a group's option; drop: leaves a group out; value and delete: set and remove a key.
FlagKind = Literal["option", "drop", "value", "delete"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One override."""

    text: str  # as typed
    kind: FlagKind
    key: str
    package: str | None  # `engine@draft=x`
    value: Any

    @property
    def slot(self) -> str:
        """What it sets: a key, or a group as Hydra names it, with the package that its option goes to."""
        return self.key if self.package is None else f"{self.key}@{self.package}"


# What other tools have a word of its own for, and how it is said here.
_ELSEWHERE = {
    ("target", "kserve"): "write target=kubernetes target.form=kserve",
    ("target", "kuberay"): "write target=kubernetes target.form=rayservice",
    ("target", "rayservice"): "write target=kubernetes target.form=rayservice",
    ("target", "k8s"): "write target=kubernetes",
    ("target", "docker"): "write target=compose",
}


def parse_flags(words: Sequence[str], tree: ConfigTree) -> list[Flag]:
    """Return the overrides that the words spell. Raises ConfigError with every word that is none.

    A key is set once, so one that stands twice is a fault. UsageError where the words are no settings at all,
    as anywhere on the command line.
    """
    parser = OverridesParser.create()
    flags: list[Flag] = []
    faults: list[str] = []
    bare: list[str] = []
    for word in words:
        try:
            parsed = parser.parse_override(word)
        except (HydraException, ValueError):  # ValueError: a number of thousands of digits
            faults.append(_unreadable(word, tree))
            if "=" not in word:
                bare.append(word)
            continue
        fault = _fault(parsed, word, tree)
        if fault is None:
            flags.append(_flag(parsed, word, tree))
        else:
            faults.append(fault)
    if faults and len(bare) == len(faults):
        raise UsageError("\n".join(faults))
    faults += _given_again(flags)
    if faults:
        raise ConfigError(faults)
    return flags


def _flag(parsed: Override, word: str, tree: ConfigTree) -> Flag:
    key = parsed.key_or_group
    kind: FlagKind
    if tree.is_group(key):
        kind = "drop" if parsed.is_delete() else "option"
    else:
        kind = "delete" if parsed.is_delete() else "value"
    value: Any = parsed.value()
    if kind == "value":
        key, value = today(key, value) or (key, value)
    return Flag(text=word, kind=kind, key=key, package=parsed.package, value=value)


def _given_again(flags: Sequence[Flag]) -> Iterator[str]:
    """Yield a message for each key that is set more than once, or option that is chosen so."""
    words: dict[str, list[str]] = {}
    for flag in flags:
        if flag.kind in ("option", "value"):
            words.setdefault(flag.slot, []).append(flag.text)
    for slot, given in words.items():
        if len(given) > 1:
            yield f"`{slot}` (command line {quoted(given)}): is given {len(given)} times; keep one of them"


def _unreadable(word: str, tree: ConfigTree) -> str:
    """Return the message for a word outside the override grammar."""
    key, equals, value = word.partition("=")
    if not equals:
        model = word if tree.has_option("model", word) else options_by_repository(tree).get(word.lower())
        if model is not None:
            return f"`{word}`: names a model; write +model={model}"
        return f"`{word}`: is neither a verb nor key=value; write {word.lstrip('-+')}=<value>"
    is_list = value.startswith("[") and value.endswith("]")
    texts = [_as_text(item) for item in (value[1:-1].split(",") if is_list else [value])]
    quoted_word = f"{key}=[{','.join(texts)}]" if is_list else f"{key}={texts[0]}"
    plain = not any(sign in quoted_word for sign in '"$`\\!')
    shown = f'"{quoted_word}"' if plain else shlex.quote(quoted_word)
    return f"`{word}`: the value cannot be read; if it is text, quote it twice: {shown}"


def _as_text(value: str) -> str:
    """Return a value as the override grammar takes text."""
    escaped = value.strip(" '\"").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _fault(parsed: Override, word: str, tree: ConfigTree) -> str | None:
    """Return what is wrong with an override that can be read, or None."""
    key = parsed.key_or_group
    if not key:
        return f"`{word}`: names no key; write <key>=<value>"
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return f"`{word}`: Hydra's own settings have no effect here; for config folders use --config-dir DIR"
    if parsed.is_sweep_override():
        value = word.partition("=")[2]
        return (
            f"`{word}`: gives several values, one deployment takes one; for a list write {key}=[{value}], "
            f"for text {key}=\"'{value}'\""
        )
    if parsed.is_delete():
        return None
    if tree.is_group(key):
        return _option_fault(parsed, word, tree)
    if parsed.package is not None:
        return f"`{word}`: unknown group `{key}`; {way_out(key, tree.groups(), kind='groups')}"
    return None


def _option_fault(parsed: Override, word: str, tree: ConfigTree) -> str | None:
    group, value = parsed.key_or_group, parsed.value()
    options = tree.options(group)
    names = value if isinstance(value, list) else [value]
    if value is None:
        return f"`{word}`: a group is not switched off by null; {_all_options(group, options)}"
    if any(not isinstance(name, str) for name in names):
        return f"`{word}`: {group} takes the name of an option; {_all_options(group, options)}"
    if "" in names:
        return f"`{word}`: names no option; {_all_options(group, options)}"
    unknown = [str(name) for name in names if not tree.has_option(group, str(name))]
    if unknown:
        near_it = _as_model(unknown[0], tree) if group == "model" and "/" in unknown[0] else None
        near_it = near_it or _ELSEWHERE.get((group, unknown[0]))
        near_it = near_it or way_out(unknown[0], options, kind="options", listed_by=f"deploy list {group}")
        return f"unknown {group} {quoted(unknown)} (command line `{word}`): {near_it}"
    return None


def _all_options(group: str, options: Sequence[str]) -> str:
    """Return the options of a group, or the command that shows them where they are too many for a line."""
    if len(options) > MOST_SHOWN:
        return f"`deploy list {group}` lists all {len(options)} options"
    return f"options of {group}: {quoted(options)}"


def _as_model(name: str, tree: ConfigTree) -> str:
    """Return how a folder or a repository is written that was given in the place of an option."""
    option = options_by_repository(tree).get(name.lower())
    if option is not None:
        return f"it is the repository of `{option}`; write +model={option}"
    if name.startswith((".", "~", "/")) or Path(name).is_dir():
        return f"for a folder write +model=local model.path={name}"
    return (
        f"no option stands for this repository; write +model=<what it was made from> model.repo={name}, "
        f"or download it and write +model=local model.path=<its folder>"
    )
