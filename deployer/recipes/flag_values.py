"""What command-line flags set, as the values of a recipe's file."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from deployer.config.overrides import Flag
from deployer.errors import UsageError


def with_values(values: Mapping[str, Any], flags: Sequence[Flag]) -> dict[str, Any]:
    """Return nested values with those that these flags set; flags that choose an option are left aside.

    Raises UsageError for a flag that takes something out.
    """
    changed = OmegaConf.create(dict(values))
    for flag in flags:
        if flag.kind == "value":
            OmegaConf.update(changed, flag.key, flag.value, force_add=True)
        elif flag.kind != "option":
            raise UsageError(f"`{flag.text}`: a recipe can't take a key out; set it to null where it may be")
    found = OmegaConf.to_container(changed)
    assert isinstance(found, dict), "created as a mapping"
    return {str(key): value for key, value in found.items()}


def chosen_options(flags: Sequence[Flag]) -> dict[str, Any]:
    """Return the option of each group that these flags choose."""
    return {flag.key: flag.value for flag in flags if flag.kind == "option"}
