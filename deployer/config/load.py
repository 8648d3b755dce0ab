"""Overrides -> a validated `DeployConfig`: compose, complete, build, check, in this order."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.config.build import build
from deployer.config.checks import check
from deployer.config.compose import Composition, compose
from deployer.config.folder import complete_from_folder
from deployer.config.schema import DeployConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A validated deployment and what was noticed on the way."""

    config: DeployConfig
    extra: Any  # the dataclass of the verb's own group; None where it has none
    warnings: tuple[str, ...]


def load_config(overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> DeployConfig:
    """Return the validated deployment that the overrides spell; `config_dirs` join the search path.

    A word that ends in .yaml is a recipe file. Warnings go to the log. Raises ConfigError with every fault,
    UsageError for a word out of place.
    """
    loaded = validate(compose(overrides, config_dirs=config_dirs))
    for warning in loaded.warnings:
        logger.warning(warning)
    return loaded.config


def validate(composition: Composition, extra: Mapping[str, type[Any]] | None = None) -> Loaded:
    """Build and check a composition; `extra` maps the verb's own group, if any, to its dataclass.

    Raises ConfigError with every fault.
    """
    extra = extra or {}
    complete_from_folder(composition)
    own = {name: value for name, value in composition.values.items() if name not in extra}
    config = build(DeployConfig, own, composition.origins)
    parts = [
        build(kind, composition.values[name], composition.origins, at=name) for name, kind in extra.items()
    ]
    warnings = check(config, composition.origins)
    return Loaded(config=config, extra=parts[0] if parts else None, warnings=tuple(warnings))
