"""Where each value of a composed tree was set: files with line numbers, and flags as typed.

Hydra keeps no origins. `compose.py` feeds the files in their merge order and then the flags; `build.py` and
`checks.py` name an origin in every message, `explain.py` prints them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployer.assets import resource_dir
from deployer.yaml_text import LOADER


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One place that sets one key: a line of a file, or a flag."""

    file: str | None  # as a reader would name it
    line: int | None
    flag: str | None  # as typed
    text: str  # the value as written; empty for a mapping or a list
    plain: bool  # written without quotes, so that YAML decides on its type

    @property
    def where(self) -> str:
        """Return the place as a message shows it."""
        if self.flag is not None:
            return f"command line `{self.flag}`"
        return f"{self.file}:{self.line}" if self.line is not None else str(self.file)


@dataclass(slots=True)
class Origins:
    """Every setting of every key, in the order in which they win; the last one holds."""

    settings: dict[str, list[Setting]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)  # as a reader names it -> where it lies

    def add_file(self, path: Path, package: str) -> None:
        """Note each key of a YAML file whose content lands at `package`."""
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
        if isinstance(tree, yaml.MappingNode):
            shown = shown_path(path)
            self.files[shown] = path
            for key, node in _leaves(tree, package):
                if not _belongs_to_hydra(key, package):
                    self._add(key, _written(node, shown))

    def add_flag(self, key: str, value: Any, text: str) -> None:
        """Note a command-line value; a mapping counts as one setting for each of its leaves."""
        raw = text.partition("=")[2]
        for leaf, plain in _flag_leaves(key, value):
            written = raw if leaf == key else ""
            self._add(leaf, Setting(file=None, line=None, flag=text, text=written, plain=plain))

    def add_found(self, key: str, value: Any, file: Path) -> None:
        """Note a value that was read from a checkpoint; a mapping counts as one setting for each leaf."""
        shown = shown_path(file)
        self.files[shown] = file
        for leaf, _ in _flag_leaves(key, value):
            text = str(value) if leaf == key and not isinstance(value, (dict, list)) else ""
            self._add(leaf, Setting(file=shown, line=None, flag=None, text=text, plain=False))

    def drop(self, key: str) -> None:
        """Forget a key and all below it (`~key`)."""
        for known in [name for name in self.settings if _is_below(name, key)]:
            del self.settings[known]

    def of(self, key: str) -> tuple[Setting, ...]:
        """Return the settings of a key, or of the first one below or nearest above it; the last one holds."""
        if key in self.settings:
            return tuple(self.settings[key])
        below = next((name for name in self.settings if _is_below(name, key)), None)
        if below is not None:
            return tuple(self.settings[below])
        above = key.rpartition(".")[0]
        return self.of(above) if above else ()

    def where(self, key: str) -> str:
        """Return the place that holds for a key, as a message shows it."""
        settings = self.of(key)
        return settings[-1].where if settings else "not set anywhere"

    def _add(self, key: str, setting: Setting) -> None:
        """Note one setting; a mapping that a scalar replaces, or the reverse, no longer counts."""
        above = key.rpartition(".")[0]
        while above:
            self.settings.pop(above, None)
            above = above.rpartition(".")[0]
        for known in [name for name in self.settings if name != key and _is_below(name, key)]:
            del self.settings[known]
        self.settings.setdefault(key, []).append(setting)


def shown_path(path: Path) -> str:
    """Return a path as a reader would name it: `conf/...` for what ships, else relative to where we are."""
    for root, prefix in ((resource_dir("conf"), Path("conf")), (Path.cwd(), Path())):
        if path.is_relative_to(root):
            return str(prefix / path.relative_to(root))
    return str(path)


def _leaves(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, yaml.Node]]:
    for key_node, value in node.value:
        key = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, key)
        else:
            yield key, value
            if isinstance(value, yaml.SequenceNode):
                yield from ((f"{key}[{i}]", item) for i, item in enumerate(value.value))


def _belongs_to_hydra(key: str, package: str) -> bool:
    """Tell whether a key is a file's defaults list rather than a value."""
    relative = key[len(package) + 1 :] if package else key
    return relative == "defaults" or relative.startswith("defaults[")


def _written(node: yaml.Node, file: str) -> Setting:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return Setting(file=file, line=line, flag=None, text=node.value, plain=not node.style)
    return Setting(file=file, line=line, flag=None, text="", plain=False)


def _flag_leaves(key: str, value: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flag_leaves(f"{key}.{name}", inner)
        return
    yield key, not isinstance(value, str)
    if isinstance(value, list):
        yield from ((f"{key}[{i}]", not isinstance(item, str)) for i, item in enumerate(value))


def _is_below(name: str, key: str) -> bool:
    return name == key or name.startswith((f"{key}.", f"{key}["))
