"""Overrides -> one plain mapping, and where each of its values was set.

Hydra resolves the defaults lists and merges the files. It never gets to judge a key: values are handed to it
in its set-or-add form, so that `build.py` finds every unknown key at once and can name the near ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deployer.config.circle import circle
from deployer.config.hydra_faults import broken_yaml, clash, hydra_fault, unreadable, unresolved
from deployer.config.hydra_loader import ClashError, HydraLoader, Merged
from deployer.config.origins import Origins, shown_path
from deployer.config.overrides import Flag, parse_flags
from deployer.config.recipe_file import BLOCK, DEFAULTS, find_recipe, read_block, recipe_word
from deployer.config.schema import DeployConfig
from deployer.config.suggest import quoted, way_out
from deployer.config.tree import ConfigTree, config_tree
from deployer.config.words import is_recipe_file
from deployer.errors import ConfigError, UsageError

ALONE = "_alone"  # the primary config of verbs that need no deployment
GROUPS = tuple(field.name for field in fields(DeployConfig))
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
    recipe: dict[str, Any] | None  # the block of `tree.recipe` that is about itself; None: it has none


def compose(
    words: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    extra_groups: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Composition:
    """Compose a recipe (a path to a .yaml, or +recipe=name) or the built-in deployment with overrides.

    `extra_groups` are read by one verb only, with the option that each starts from; `alone`: compose nothing
    but them. Raises ConfigError.
    """
    words = [_as_file(word, config_dirs) for word in words]
    recipes = [word for word in words if is_recipe_file(word)]
    if len(recipes) > 1:
        raise UsageError(f"recipes {', '.join(recipes)}: one deployment starts from one recipe")
    tree = config_tree(recipes[0] if recipes else None, config_dirs)
    if alone:
        tree = replace(tree, primary=ALONE)
    flags = parse_flags([word for word in words if not is_recipe_file(word)], tree)
    _refuse_recipe_keys(flags)
    try:
        block = read_block(tree.recipe) if tree.recipe else None
        return _compose(tree, flags, _with_hardware(extra_groups or {}, block, tree), block)
    except yaml.YAMLError as error:
        raise ConfigError([broken_yaml(error)]) from error
    except ClashError as error:
        raise ConfigError([clash(error, tree)]) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([hydra_fault(error, tree)]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([unreadable(error, tree)]) from error
    except RecursionError:
        options = [(flag.key, flag.value) for flag in flags if flag.kind == "option"]
        chosen = [*(extra_groups or {}).items(), *options]
        found = circle(tree, [tree.primary, *(f"{group}/{option}" for group, option in chosen)])
        if found is None:
            raise
        raise ConfigError([found]) from None


def _compose(
    tree: ConfigTree, flags: Sequence[Flag], extra_groups: Mapping[str, str], block: dict[str, Any] | None
) -> Composition:
    loader = HydraLoader(tree.primary, tree.folders)
    merged = loader.merge(_group_words(flags, loader.listed_groups(), extra_groups))
    origins = Origins()
    for part in merged.files:
        file = tree.file(part.config_path)
        assert file is not None, "what was merged is a file of the tree"
        origins.add_file(file, part.package)
    _refuse_hydra_settings(origins)
    merged.config.pop(BLOCK, None)
    _apply(flags, merged.config, origins)
    if tree.primary != ALONE:
        _refuse_half_a_tree(tree, merged, flags)
    return Composition(
        values=_plain(merged.config, origins),
        origins=origins,
        choices=merged.choices,
        tree=tree,
        recipe=block,
    )


def _refuse_half_a_tree(tree: ConfigTree, merged: Merged, flags: Sequence[Flag]) -> None:
    """Raise ConfigError where the parts of a deployment are missing, and say what was meant, if it shows."""
    missing = [group for group in GROUPS if group not in merged.config]
    if tree.recipe is not None and missing and not any(file.config_path == "deploy" for file in merged.files):
        has_no = f"{shown_path(tree.recipe)}: has no {quoted(missing)}"
        raise ConfigError([f"{has_no}: begin its list with `deploy`: {DEFAULTS}"])
    if "model" in missing:
        unknown = [
            flag for flag in flags if flag.kind == "value" and flag.key not in GROUPS and "." not in flag.key
        ]
        raise ConfigError([*(_unknown_group(flag, tree) for flag in unknown), NO_MODEL])


def _unknown_group(flag: Flag, tree: ConfigTree) -> str:
    tail = way_out(flag.key, tree.groups(), kind="groups")
    return f"unknown group `{flag.key}` (command line `{flag.text}`): {tail}"


def _with_hardware(
    extra_groups: Mapping[str, str], block: Mapping[str, Any] | None, tree: ConfigTree
) -> Mapping[str, str]:
    """Let a recipe choose the hardware that a verb plans for."""
    named = block.get("hardware") if block else None
    if "hardware" not in extra_groups or not tree.has_option("hardware", str(named)):
        return extra_groups
    return {**extra_groups, "hardware": str(named)}


def _refuse_recipe_keys(flags: Sequence[Flag]) -> None:
    faults = [
        f"`{flag.text}`: a recipe says this of itself, in its file"
        for flag in flags
        if flag.key == BLOCK or flag.key.startswith(f"{BLOCK}.")
    ]
    if faults:
        raise ConfigError(faults)


def _group_words(flags: Sequence[Flag], listed: set[str], extra_groups: Mapping[str, str]) -> list[str]:
    """Return the overrides that choose options, with a `+` where the group is not listed yet."""
    chosen = {flag.slot: flag for flag in flags if flag.kind == "option"}
    words = [
        f"+{group}={option}" for group, option in extra_groups.items() if group not in {*chosen, *listed}
    ]
    words += [
        flag.text.lstrip("+") if slot in listed else f"+{flag.text.lstrip('+')}"
        for slot, flag in chosen.items()
    ]
    return words + [flag.text for flag in flags if flag.kind == "drop"]


def _apply(flags: Sequence[Flag], config: DictConfig, origins: Origins) -> None:
    """Set and delete the values that flags name, in the order typed. Raises ConfigError."""
    faults = []
    for flag in flags:
        if flag.kind == "value":
            OmegaConf.update(config, flag.key, flag.value, merge=True, force_add=True)
            origins.add_flag(flag.key, flag.value, flag.text)
        elif flag.kind == "delete":
            above, _, name = flag.key.rpartition(".")
            holder = OmegaConf.select(config, above) if above else config
            if isinstance(holder, DictConfig) and name in holder:
                del holder[name]
                origins.drop(flag.key)
            else:
                faults.append(
                    f"`{flag.text}`: there is no such key; {way_out(flag.key, origins.settings, kind='keys')}"
                )
    if faults:
        raise ConfigError(faults)


def _refuse_hydra_settings(origins: Origins) -> None:
    found = [key for key in origins.settings if key == "hydra" or key.startswith("hydra.")]
    if found:
        raise ConfigError(
            [f"`{key}` ({origins.where(key)}): settings of Hydra itself have no effect here" for key in found]
        )


def _plain(config: DictConfig, origins: Origins) -> dict[str, Any]:
    """Return the config as plain values. Raises ConfigError with every interpolation that fails."""
    faults = []
    for key in [key for key, settings in origins.settings.items() if "${" in settings[-1].text]:
        try:
            OmegaConf.select(config, key, throw_on_resolution_failure=True)
        except OmegaConfBaseException as error:
            faults.append(unresolved(key, error, origins))
    if faults:
        raise ConfigError(faults)
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict), "a config is a mapping"
    return {str(key): value for key, value in values.items()}


def _as_file(word: str, config_dirs: Sequence[Path]) -> str:
    name = recipe_word(word)
    return word if name is None else str(find_recipe(name, config_dirs, word=word))
