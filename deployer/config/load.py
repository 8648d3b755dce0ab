"""Overrides -> a validated `DeployConfig`: compose, build, complete, check, in this order."""

from collections.abc import Sequence
from pathlib import Path

from deployer.config.build import build
from deployer.config.compose import compose
from deployer.config.folder import complete_from_folder
from deployer.config.schema import DeployConfig


def load_config(overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> DeployConfig:
    """Return the validated deployment that the overrides spell; `config_dirs` join the search path.

    A word that ends in .yaml is a recipe file. Raises ConfigError with every fault, UsageError for a word out
    of place.
    """
    composition = compose(overrides, config_dirs=config_dirs)
    complete_from_folder(composition)
    return build(DeployConfig, composition.values, composition.origins)
