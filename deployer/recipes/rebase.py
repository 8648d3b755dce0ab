"""A recipe made from another one: under another name, with other values and figures, its comments kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployer.config.overrides import Flag
from deployer.config.recipe_file import BLOCK, read_block
from deployer.errors import ConfigError
from deployer.recipes.flag_values import chosen_options, with_values
from deployer.recipes.rewrite import rewrite
from deployer.yaml_text import yaml_text


def rebased(source: Path, flags: Sequence[Flag], block: Mapping[str, Any]) -> str:
    """Return the text of a recipe with what these flags set, and these keys of its own block.

    Raises ConfigError for a recipe without a block, UsageError for a flag that takes something out.
    """
    own = read_block(source)
    if own is None:
        raise ConfigError([f"{source}: has no `{BLOCK}:` block; deploy recipe upgrade {source} adds one"])
    text = source.read_text(encoding="utf-8")
    old: dict[str, Any] = yaml.safe_load(text)
    changed = with_values({key: value for key, value in old.items() if key not in (BLOCK, "defaults")}, flags)
    defaults = _with_options(old.get("defaults", []), chosen_options(flags))
    added = {key: value for key, value in changed.items() if key not in old}
    head = {BLOCK: {**own, **block}, **({"defaults": defaults} if "defaults" in old else {})}
    kept = {key: changed[key] for key in old if key in changed}
    # `rewrite` puts new keys first; below the defaults is where a reader looks for values.
    body = rewrite(text, old, {**head, **kept})
    return body if not added else f"{body.rstrip()}\n\n{yaml_text(added)}"


def _with_options(defaults: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
    """Return a defaults list that chooses these options."""
    left = dict(options)
    changed = []
    for entry in defaults:
        key = next(iter(entry), "") if isinstance(entry, Mapping) else ""
        group = key.removeprefix("override ").strip("/ ")
        changed.append({key: left.pop(group)} if group in left else entry)
    at = changed.index("_self_") if "_self_" in changed else len(changed)
    return [*changed[:at], *({f"override {group}": name} for group, name in left.items()), *changed[at:]]
