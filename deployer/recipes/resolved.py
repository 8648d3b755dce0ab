"""The words of a deployment -> its validated config, what set each value, and its plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.config.compose import Composition, compose
from deployer.config.load import build_options, validate
from deployer.config.recipe_file import Header, build_header
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.plan.command import make_plan
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.plan.plan import Plan
from deployer.verbs import VERBS
from engines.errors import CheckpointError

PLAN = VERBS["plan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A deployment as these words spell it here and now."""

    composition: Composition
    config: DeployConfig
    header: Header | None  # of the recipe, where the words name one that has a version
    options: PlanOptions
    hardware: Hardware


def resolve(words: Sequence[str], config_dirs: Sequence[Path] = ()) -> Resolved:
    """Compose and validate. Raises ConfigError, UsageError."""
    groups = {group.name: group.option for group in PLAN.groups}
    composition = compose(words, config_dirs=config_dirs, extra_groups=groups)
    config = validate(composition, PLAN)
    options, hardware = (build_options(group, composition) for group in PLAN.groups)
    return Resolved(
        composition=composition,
        config=config,
        header=_header(composition),
        options=options,
        hardware=hardware,
    )


def resolve_recipe(path: Path, config_dirs: Sequence[Path] = ()) -> tuple[Resolved, Header]:
    """Resolve a recipe that can be locked. Raises ConfigError where it says nothing of itself."""
    resolved = resolve([str(path)], config_dirs)
    if resolved.header is None:
        rule = "has no `recipe:` block, so it has no version to lock"
        raise ConfigError([f"recipe {path}: {rule}; deploy recipe upgrade {path} adds one"])
    return resolved, resolved.header


def plan_of(config: DeployConfig, options: PlanOptions, hardware: Hardware) -> Plan | str:
    """Return the plan of a deployment, or why this version can't make one."""
    try:
        return make_plan(config, options, hardware)
    except (CheckpointError, ConfigError) as error:
        return str(error)


def _header(composition: Composition) -> Header | None:
    path = composition.tree.recipe
    if composition.recipe is None or path is None:
        return None
    return build_header(composition.recipe, path, composition.tree, composition.origins)
