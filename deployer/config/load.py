"""Overrides -> a validated `DeployConfig`: compose, complete, build, check, in this order."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.config.build import build
from deployer.config.checks import check
from deployer.config.compose import Composition, compose
from deployer.config.folder import complete_from_folder
from deployer.config.resolve import entry
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.verbs import Verb

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What a verb runs with, and what was noticed on the way."""

    config: DeployConfig | None  # None for a verb that takes its own options only
    options: Any  # the dataclass of the verb's own group; None where it has none
    warnings: tuple[str, ...]


def load_config(overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> DeployConfig:
    """Return the validated deployment that the overrides spell; `config_dirs` join the search path.

    A word that ends in .yaml is a recipe file. Warnings go to the log. Raises ConfigError with every fault,
    UsageError for a word out of place.
    """
    config, warnings = validate(compose(overrides, config_dirs=config_dirs))
    for warning in warnings:
        logger.warning(warning)
    return config


def load_for_verb(verb: Verb, words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> Loaded:
    """Return the deployment, where the verb takes one, and the options of its own group.

    `output=json` is short for the group's own `output`. Raises as `load_config`.
    """
    if verb.group is None:
        config, warnings = validate(compose(words, config_dirs=config_dirs))
        return Loaded(config=config, options=None, warnings=warnings)
    own = [f"{verb.group}.{word}" if word.startswith("output=") else word for word in words]
    alone = verb.takes == "options"
    composition = compose(
        own,
        config_dirs=config_dirs,
        extra_groups={verb.group: verb.option},
        primary="_alone" if alone else None,
    )
    if alone:
        return Loaded(config=None, options=_options(verb, composition), warnings=())
    options, (config, warnings) = _both(
        lambda: _options(verb, composition), lambda: validate(composition, verb)
    )
    return Loaded(config=config, options=options, warnings=warnings)


def validate(composition: Composition, verb: Verb | None = None) -> tuple[DeployConfig, tuple[str, ...]]:
    """Return the deployment of a composition, and warnings; the verb's own group is left aside.

    Raises ConfigError with every fault.
    """
    complete_from_folder(composition)
    aside = verb.group if verb is not None else None
    values = {name: value for name, value in composition.values.items() if name != aside}
    config = build(DeployConfig, values, composition.origins)
    return config, tuple(check(config, composition.origins))


def _options(verb: Verb, composition: Composition) -> Any:
    assert verb.group is not None and verb.options is not None, "a verb's own group has a dataclass"
    kind = entry(verb.options)
    assert isinstance(kind, type), "a verb's options are a dataclass"
    return build(kind, composition.values.get(verb.group, {}), composition.origins, at=verb.group)


def _both(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Return both results, or raise one ConfigError with the faults of both."""
    results: list[Any] = []
    faults: list[str] = []
    for part in (first, second):
        try:
            results.append(part())
        except ConfigError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigError(faults)
    return results[0], results[1]
