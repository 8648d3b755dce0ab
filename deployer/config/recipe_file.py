"""A recipe as the config tree sees it: where it is found, and the block of its file that is about itself.

    recipe:            schema, name, version, ...: `Header`
    defaults: [...]    and below it the changes: an ordinary primary config

A file without a `recipe:` block deploys as well; it has no version and can't be locked. Hydra-free.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from deployer.assets import resource_dir
from deployer.config.build import build
from deployer.config.origins import Origins, shown_path
from deployer.config.suggest import quoted, way_out
from deployer.config.tree import ConfigTree
from deployer.errors import ConfigError
from deployer.yaml_text import LOADER

SCHEMA = 1  # of the block; raised with a step in `deployer/recipes/migrations.py`
BLOCK = "recipe"
DEFAULTS = "`defaults: [deploy, {model: <name>}]`"  # how a recipe begins
FIGURES = ("batch", "first_token_ms", "kv_tokens", "requests_per_s", "token_ms", "tokens_per_s")
_WORDS = (f"+{BLOCK}=", f"{BLOCK}=")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the deployment reaches, and how that is known."""

    basis: Literal["planned", "measured"]  # planned: computed by `deploy plan`, not measured
    date: str
    machine: str | None  # what it was measured on
    commit: str | None  # of this project, when it was measured
    figures: dict[str, Any]  # names of `FIGURES`


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a recipe says of itself."""

    schema: int
    name: str  # the file's, without .yaml
    version: str
    description: str
    hardware: str  # an option of the group `hardware`
    tolerance: float  # share by which a smoke request may be slower than when it was locked
    expected: Expected | None


def recipe_word(word: str) -> str | None:
    """Return the name in `+recipe=NAME`, or None for any other word."""
    return next((word.removeprefix(start) for start in _WORDS if word.startswith(start)), None)


def find_recipe(name: str, config_dirs: Sequence[Path], *, word: str | None = None) -> Path:
    """Return the file of a recipe: below each --config-dir, then what ships. Raises ConfigError.

    `word`: what was typed, for the message.
    """
    known = known_recipes(config_dirs)
    if name not in known:
        tail = way_out(name, known, kind="recipes", listed_by="deploy recipe list")
        where = "" if word is None else f" (command line `{word}`)"
        raise ConfigError(
            [f"unknown recipe `{name}`{where}: {tail}; for a file give its path, as ops/{name}.yaml"]
        )
    return known[name]


def known_recipes(config_dirs: Sequence[Path]) -> dict[str, Path]:
    """Return every recipe by name; the first folder that has it counts."""
    return {path.stem: path for folder in reversed(recipe_folders(config_dirs)) for path in _files(folder)}


def recipe_folders(config_dirs: Sequence[Path]) -> list[Path]:
    """Return the folders that recipes are looked for in, the first winning."""
    given = [
        folder.resolve() for config_dir in config_dirs for folder in (config_dir, config_dir / "recipes")
    ]
    return [folder for folder in (*given, resource_dir("recipes")) if folder.is_dir()]


def read_block(path: Path) -> dict[str, Any] | None:
    """Return the `recipe:` block of a file, None where it has none. Raises ConfigError, yaml.YAMLError."""
    with path.open(encoding="utf-8") as stream:  # the stream tells its name in an error
        content = yaml.load(stream, Loader=LOADER)
    if not isinstance(content, Mapping):
        held = "nothing" if content is None else "a list" if isinstance(content, list) else "one value"
        raise ConfigError(
            [f"{shown_path(path)}: holds {held}: a recipe is keys and values, and begins with {DEFAULTS}"]
        )
    if "defaults" not in content:
        raise ConfigError(
            [f"{shown_path(path)}: has no `defaults` to start from: a recipe begins with {DEFAULTS}"]
        )
    if BLOCK not in content:
        return None
    block = content[BLOCK]
    if not isinstance(block, Mapping):
        raise ConfigError([f"{shown_path(path)}: `{BLOCK}` is a group of keys, as `name` and `version`"])
    check_schema(block, path)
    return {str(key): value for key, value in block.items()}


def check_schema(block: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a block that another version of this tool wrote."""
    schema = block.get("schema")
    if not isinstance(schema, int) or schema == SCHEMA:
        return  # `build_header` says what is wrong with a schema that is no number
    where = f"{shown_path(path)}: recipe.schema={schema}"
    if schema > SCHEMA:
        rule = (
            f"this version reads recipes up to schema {SCHEMA}; upgrade the tool: pip install -U vlm-deployer"
        )
        raise ConfigError([f"{where}: {rule}"])
    raise ConfigError(
        [f"{where}: this version reads schema {SCHEMA}; write it anew: deploy recipe upgrade {path}"]
    )


def build_header(block: Mapping[str, Any], path: Path, tree: ConfigTree, origins: Origins) -> Header:
    """Return the block of a recipe, checked. Raises ConfigError with every fault."""
    header = build(Header, block, origins, at=BLOCK)
    faults = [
        f"recipe.{key}={getattr(header, key)!r} ({origins.where(f'{BLOCK}.{key}')}): {rule}"
        for key, rule in _complaints(header, path, tree)
    ]
    faults += [f"recipe.expected ({origins.where(f'{BLOCK}.expected')}): {rule}" for rule in _about(header)]
    if faults:
        raise ConfigError(faults)
    return header


def _complaints(header: Header, path: Path, tree: ConfigTree) -> Iterator[tuple[str, str]]:
    if header.name != path.stem:
        yield "name", f"must be the file's name, `{path.stem}`; rename one of them"
    if not header.version.strip():
        yield "version", 'must not be empty; write "1"'
    if not tree.has_option("hardware", header.hardware):
        yield "hardware", way_out(header.hardware, tree.options("hardware"), kind="options")
    if header.tolerance <= 0:
        yield "tolerance", "must be above 0; 0.5 allows half as much time again"


def _about(header: Header) -> Iterator[str]:
    """Yield what is wrong with the expected figures."""
    expected = header.expected
    if expected is None:
        return
    if expected.basis == "measured" and not (expected.machine and expected.commit):
        yield "measured figures name their `machine` and `commit`; basis `planned` needs neither"
    for name, value in sorted(expected.figures.items()):
        if name not in FIGURES:
            yield f"unknown figure `{name}`: {way_out(name, FIGURES, kind='figures')}"
        elif isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            yield f"`{name}` must be a number above 0"
    if not expected.figures:
        yield f"`figures` is empty: name at least one of {quoted(FIGURES)}, or write `expected: null`"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("_"))
