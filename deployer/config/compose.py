"""Overrides -> one plain mapping, and where each of its values was set.

Hydra resolves the defaults lists and merges the files. It never gets to judge a key: values are handed to it
in its set-or-add form, so that `build.py` finds every unknown key at once and can name the near ones.

`compute_defaults_list` is a semi-private part of Hydra; the tests hold it on 1.3 and 1.4.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deployer.config.origins import Origins, shown_path
from deployer.config.overrides import Flag, parse_flags
from deployer.config.suggest import way_out
from deployer.config.tree import ConfigTree, config_tree
from deployer.errors import ConfigError, UsageError

ALONE = "_alone"  # the primary config of verbs that need no deployment
NO_MODEL = (
    "missing `model`: add +model=<name>; `deploy list models` shows them, "
    "`+model=pocket_vl` ships with the package"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """A composed tree of plain values, not yet validated; `???` stands where a value is missing."""

    values: dict[str, Any]
    origins: Origins
    choices: dict[str, str]  # group -> option
    tree: ConfigTree


def compose(
    words: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    extra_groups: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Composition:
    """Compose a recipe (a word that ends in .yaml) or the built-in deployment with overrides.

    `extra_groups` are read by one verb only, with the option that each starts from; `alone`: compose nothing
    but them. Raises ConfigError.
    """
    recipes = [word for word in words if _is_recipe(word)]
    if len(recipes) > 1:
        raise UsageError(f"recipes {', '.join(recipes)}: one deployment starts from one recipe")
    tree = config_tree(recipes[0] if recipes else None, config_dirs)
    if alone:
        tree = replace(tree, primary=ALONE)
    flags = parse_flags([word for word in words if not _is_recipe(word)], tree)
    try:
        return _compose(tree, flags, extra_groups or {})
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_broken_yaml(error)]) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([_hydra_fault(error, tree)]) from error


def _compose(tree: ConfigTree, flags: Sequence[Flag], extra_groups: Mapping[str, str]) -> Composition:
    # Hydra 1.4 warns where a version base is given, 1.3 where it is not.
    version: dict[str, Any] = {} if hydra.__version__ >= "1.4" else {"version_base": "1.3"}
    path = "hydra.searchpath=[" + ",".join(_quote(f"file://{folder}") for folder in tree.folders[1:]) + "]"
    with initialize_config_dir(config_dir=str(tree.folders[0]), **version):
        loader = GlobalHydra.instance().config_loader()
        listed = loader.compute_defaults_list(tree.primary, [path], RunMode.MULTIRUN).overrides.known_choices
        words = [path, *_hydra_words(flags, listed, extra_groups)]
        defaults = loader.compute_defaults_list(tree.primary, words, RunMode.RUN)
        config = hydra_compose(tree.primary, overrides=words)
    if tree.primary != ALONE and "model" not in config:
        raise ConfigError([NO_MODEL])
    origins = Origins()
    for default in defaults.defaults:
        file = None if default.config_path is None else tree.file(default.config_path)
        if file is not None and not default.config_path.startswith("hydra/"):
            origins.add_file(file, default.package or "")
    for flag in flags:
        if flag.kind == "delete":
            origins.drop(flag.key)
        elif flag.kind == "value":
            origins.add_flag(flag.key, flag.value, flag.text)
    chosen = {k: v for k, v in defaults.overrides.known_choices.items() if not k.startswith("hydra/") and v}
    return Composition(values=_plain(config, origins), origins=origins, choices=chosen, tree=tree)


def _hydra_words(
    flags: Sequence[Flag], listed: Mapping[str, Any], extra_groups: Mapping[str, str]
) -> list[str]:
    """Return the overrides in a form that always applies: `+` for a group not yet listed, `++` for values."""
    words = []
    chosen = {flag.key for flag in flags if flag.kind == "option"}
    last = {(flag.key, flag.package): flag for flag in flags}
    for group, option in extra_groups.items():
        if group not in chosen and group not in listed:
            words.append(f"+{group}={option}")
    for flag in flags:
        bare = flag.text.lstrip("+").strip()
        if flag.kind == "delete":
            words.append(flag.text)
        elif flag.kind == "value":
            words.append(f"++{bare}")
        elif last[flag.key, flag.package] is flag:
            name = flag.key if flag.package is None else f"{flag.key}@{flag.package}"
            words.append(bare if name in listed else f"+{bare}")
    return words


def _plain(config: DictConfig, origins: Origins) -> dict[str, Any]:
    """Return the config as plain values with every interpolation resolved."""
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        text = origins.of(key)[-1].text if origins.of(key) else ""
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{key}={text} ({origins.where(key)}): cannot be filled in: {reason}"]) from error
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _broken_yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = "config file" if mark is None else f"{shown_path(Path(mark.name))}:{mark.line + 1}"
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{place}: is not YAML: {what}"


def _hydra_fault(error: Exception, tree: ConfigTree) -> str:
    """Return Hydra's own complaint about the files in one line, without its advice to add what is unknown."""
    text = str(error) or str(error.__cause__ or type(error).__name__)
    missing = re.search(r"(?:In '(?P<file>[^']+)': )?Could not find '(?P<name>[^']+)'", text)
    if missing:
        return _missing_file(missing["file"], missing["name"], tree)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("To append", "Set the environment", "See https"))]
    if error.__cause__ is not None and str(error.__cause__) not in text:
        kept.append(str(error.__cause__).splitlines()[0])
    return "the config files do not fit together: " + "; ".join(kept)


def _missing_file(by: str | None, name: str, tree: ConfigTree) -> str:
    group, _, option = name.rpartition("/")
    file = tree.file(by) if by else None
    where = f" ({shown_path(file)})" if file else ""
    known = way_out(option, tree.options(group), kind="options") if group else f"looked in {tree.folders[0]}"
    return f"unknown {group or 'config'} `{option}`{where}: {known}"


def _is_recipe(word: str) -> bool:
    return "=" not in word and word.endswith((".yaml", ".yml"))


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
