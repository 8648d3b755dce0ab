"""`deploy up`, `status` and `down`: a deployment started, looked at and ended where its target says."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from deployer.config.load import load_for_verb
from deployer.config.schema import DeployConfig
from deployer.config.targets import KubernetesTarget, LocalTarget
from deployer.errors import EXIT_OK, EXIT_UNAVAILABLE
from deployer.plan.command import make_plan
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.targets import local
from deployer.targets.command import rendered, write
from deployer.targets.local import Standing
from deployer.targets.needs import needs_of
from deployer.targets.programs import commands, refuse_cluster_without_gpus, run_commands
from deployer.typed_path import typed_path
from deployer.verbs import VERBS

JSON_SCHEMA = 1
RUNS = ("ready", "full")  # states that `deploy status` answers with 0
OF_NO_MODEL = ("output", "up.output", "target.name", "target.state_dir")  # what `status` takes by itself


@dataclass(frozen=True, kw_only=True, slots=True)
class UpOptions:
    """Where files go; values and comments in `conf/up/`."""

    out: str | None
    overwrite: bool
    output: Literal["table", "json"]


def up(config: DeployConfig, options: UpOptions, plan: PlanOptions, hardware: Hardware) -> int:
    """Start the deployment, and wait until it is ready. Raises UnavailableError where it cannot."""
    if isinstance(config.target, LocalTarget):
        return _tell(local.up(config), options, good=RUNS)
    needs = needs_of(config, make_plan(config, plan, hardware))
    folder = _folder(options, needs.name)
    rows = commands(config, needs, folder, action="up")
    if isinstance(config.target, KubernetesTarget):
        refuse_cluster_without_gpus(config.target, needs)
    write(rendered(config, plan, hardware), folder, overwrite=options.overwrite, group="up")
    run_commands(rows)
    return EXIT_OK


def status(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print how the deployment is, or each that runs in this machine's background where none is named.

    Exit code 6 where one takes no requests, or there is none.
    """
    verb = VERBS["status"]
    typed = dict(word.lstrip("+").partition("=")[::2] for word in words)
    if len(typed) < len(words) or not typed.keys() <= set(OF_NO_MODEL):
        config, options, plan, hardware = load_for_verb(
            replace(verb, takes="deployment"), words, config_dirs=config_dirs
        )
        return _look(config, options, plan, hardware, action="status", here=local.status, good=RUNS)
    own = [word for word in words if not word.lstrip("+").startswith("target.")]
    options, _, _ = load_for_verb(replace(verb, takes="options"), own, config_dirs=config_dirs)
    found = local.all_in(typed.get("target.state_dir"), name=typed.get("target.name"))
    if options.output == "json":
        print(json.dumps({"schema": JSON_SCHEMA, "servers": [asdict(standing) for standing in found]}))
    elif found:
        for standing in found:
            _print(standing)
    else:
        print("`deploy up` has started no such server on this machine")
    return EXIT_OK if found and all(one.state in RUNS for one in found) else EXIT_UNAVAILABLE


def down(config: DeployConfig, options: UpOptions, plan: PlanOptions, hardware: Hardware) -> int:
    """End the deployment."""
    return _look(config, options, plan, hardware, action="down", here=local.down, good=("none",))


def _look(
    config: DeployConfig,
    options: UpOptions,
    plan: PlanOptions,
    hardware: Hardware,
    *,
    action: Literal["status", "down"],
    here: Callable[[DeployConfig], Standing],
    good: tuple[str, ...],
) -> int:
    if isinstance(config.target, LocalTarget):
        return _tell(here(config), options, good=good)
    needs = needs_of(config, make_plan(config, plan, hardware))
    run_commands(commands(config, needs, _folder(options, needs.name), action=action))
    return EXIT_OK


def _tell(standing: Standing, options: UpOptions, *, good: tuple[str, ...]) -> int:
    if options.output == "json":
        print(json.dumps({"schema": JSON_SCHEMA, **asdict(standing)}))
    else:
        _print(standing)
    return EXIT_OK if standing.state in good else EXIT_UNAVAILABLE


def _print(standing: Standing) -> None:
    print(f"{standing.name}  {standing.state}  {standing.detail}")


def _folder(options: UpOptions, name: str) -> Path:
    if options.out is not None:
        return typed_path(options.out)
    return local.default_state_dir() / name
