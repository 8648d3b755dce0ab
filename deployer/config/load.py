"""Overrides -> a validated `DeployConfig`: compose, complete, build, check, in this order.

Hydra is imported by the functions that compose, so that lists, completion and usage errors don't wait for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.config.build import build, build_what_holds
from deployer.config.checks import broken_rules
from deployer.config.folder import complete_from_folder
from deployer.config.origins import Origins
from deployer.config.recipe_file import build_header
from deployer.config.resolve import entry
from deployer.config.schema import DeployConfig
from deployer.config.suggest import quoted
from deployer.errors import ConfigError
from deployer.verb import OptionGroup, Verb

if TYPE_CHECKING:
    from deployer.config.compose import Composition

HOLD_TO_LOCK = "deployer.recipes.guard:hold_to_lock"
# What starts an engine or leads to one; the others may look at a recipe that moved.
LOCKED_SECTIONS = ("Run", "Ship", "Measure")


def load_config(overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> DeployConfig:
    """Return the validated deployment that the overrides spell; `config_dirs` join the search path.

    A word that ends in .yaml is a recipe file. Raises ConfigError with every fault, UsageError for a word out
    of place.
    """
    from deployer.config.compose import compose

    return validate(compose(overrides, config_dirs=config_dirs))


def load_for_verb(verb: Verb, words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> list[Any]:
    """Return the arguments of a verb's function: the deployment, where it takes one, then its own groups.

    Raises as `load_config`, with the faults of all of them.
    """
    from deployer.config.compose import compose

    composition = compose(
        _with_long_output(verb, words),
        config_dirs=config_dirs,
        extra_groups={group.name: group.option for group in verb.groups},
        alone=verb.takes == "options",
    )
    if verb.section in LOCKED_SECTIONS:
        entry(HOLD_TO_LOCK)(composition, config_dirs)
    parts: list[Callable[[], Any]] = [partial(build_options, group, composition) for group in verb.groups]
    if verb.takes == "deployment":
        parts.insert(0, partial(validate, composition, verb))
    else:
        _refuse_others(verb, composition)
    return _all(parts)


def validate(composition: "Composition", verb: Verb | None = None) -> DeployConfig:
    """Return the deployment of a composition; the verb's own groups are left aside.

    Raises ConfigError with every fault.
    """
    complete_from_folder(composition)
    aside = {group.name for group in verb.groups} if verb is not None else set()
    values = {name: value for name, value in composition.values.items() if name not in aside}
    parts: list[Callable[[], Any]] = [partial(_checked, values, composition)]
    if composition.recipe is not None and composition.tree.recipe is not None:
        parts.append(
            partial(
                build_header,
                composition.recipe,
                composition.tree.recipe,
                composition.tree,
                composition.origins,
            )
        )
    config: DeployConfig = _all(parts)[0]
    return config


def from_plain(values: Mapping[str, Any]) -> DeployConfig:
    """Return the deployment that was written as these plain values. Raises ConfigError."""
    return build(DeployConfig, values, Origins())


def _checked(values: dict[str, Any], composition: "Composition") -> DeployConfig:
    others = list(_groups_of_other_verbs(values, composition))
    if others:
        raise ConfigError(others)
    config, faults = build_what_holds(DeployConfig, values, composition.origins)
    faults += broken_rules(config, composition.origins)
    if faults:
        raise ConfigError(faults)
    return config


def _groups_of_other_verbs(values: Mapping[str, Any], composition: "Composition") -> Iterator[str]:
    """Yield a message for each group that another verb reads, as `hardware` in front of a server."""
    from deployer.verbs import VERBS

    for name in sorted(values.keys() - {field.name for field in fields(DeployConfig)}):
        readers = [
            f"deploy {verb}" for verb, row in VERBS.items() if name in [one.name for one in row.groups]
        ]
        if readers:
            where = composition.origins.where(name)
            yield f"unknown key `{name}` ({where}): it is for {quoted(readers)}; leave it out here"


def _with_long_output(verb: Verb, words: Sequence[str]) -> list[str]:
    if not verb.groups:
        return list(words)
    return [f"{verb.groups[0].name}.{word}" if word.startswith("output=") else word for word in words]


def _refuse_others(verb: Verb, composition: "Composition") -> None:
    """Raise ConfigError where a verb without a deployment is given more than its own groups."""
    own = [group.name for group in verb.groups]
    others = sorted(composition.values.keys() - set(own))
    if others:
        where = composition.origins.where
        raise ConfigError(
            [f"unknown key `{name}` ({where(name)}): this verb reads {quoted(own)} only" for name in others]
        )


def build_options(group: OptionGroup, composition: "Composition") -> Any:
    """Return the dataclass of a verb's own group. Raises ConfigError with every fault."""
    kind = entry(group.kind)
    assert isinstance(kind, type), f"{group.kind}: the options of a verb are a dataclass"
    return build(kind, composition.values.get(group.name, {}), composition.origins, at=group.name)


def load_option(group: OptionGroup, name: str) -> Any:
    """Return the dataclass of a verb's own group for one of its options as it ships.

    Raises ConfigError where there is no such option.
    """
    from deployer.config.compose import compose

    return build_options(group, compose([f"{group.name}={name}"], alone=True))


def _all(parts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return every result, or raise one ConfigError with the faults of all."""
    results: list[Any] = []
    faults: list[str] = []
    for part in parts:
        try:
            results.append(part())
        except ConfigError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigError(faults)
    return results
