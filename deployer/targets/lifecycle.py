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
from deployer.targets.background import state_dir
from deployer.targets.command import rendered, write
from deployer.targets.local import Standing
from deployer.targets.needs import needs_of
from deployer.targets.programs import commands, refuse_cluster_without_gpus, run_commands
from deployer.typed_path import typed_path
from deployer.verbs import VERBS

JSON_SCHEMA = 1
RUNS = ("ready", "full")  # states that `deploy status` answers with 0
OF_NO_MODEL = ("output", "up.output", "target.name", "target.state_dir")  # what says nothing of a deployment


@dataclass(frozen=True, kw_only=True, slots=True)
class UpOptions:
    """Where files go; values and comments in `conf/up/`."""

    out: str | None
    overwrite: bool
    output: Literal["table", "json"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    """Servers in this machine's background, named without a deployment."""

    output: Literal["table", "json"]
    name: str | None  # None: whichever there is
    state_dir: str | None


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
    named = _without_deployment("status", words, config_dirs)
    if named is None:
        return _look("status", words, config_dirs, here=local.status, good=RUNS)
    found = local.all_in(named.state_dir, name=named.name)
    _tell_all(found, named)
    return EXIT_OK if found and all(one.state in RUNS for one in found) else EXIT_UNAVAILABLE


def down(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """End the deployment, or the one in this machine's background where none is named.

    Raises UsageError where several run there, and the words say nothing of which.
    """
    named = _without_deployment("down", words, config_dirs)
    if named is None:
        return _look("down", words, config_dirs, here=local.down, good=("none",))
    _tell_all(local.down_in(named.state_dir, name=named.name), named)
    return EXIT_OK


def _without_deployment(verb: str, words: Sequence[str], config_dirs: Sequence[Path]) -> _Named | None:
    """Return what words without a deployment say; None: they have one."""
    typed = dict(word.lstrip("+").partition("=")[::2] for word in words)
    if len(typed) < len(words) or not typed.keys() <= set(OF_NO_MODEL):
        return None
    own = [word for word in words if not word.lstrip("+").startswith("target.")]
    options, _, _ = load_for_verb(replace(VERBS[verb], takes="options"), own, config_dirs=config_dirs)
    return _Named(
        output=options.output, name=typed.get("target.name"), state_dir=typed.get("target.state_dir")
    )


def _look(
    action: Literal["status", "down"],
    words: Sequence[str],
    config_dirs: Sequence[Path],
    *,
    here: Callable[[DeployConfig], Standing],
    good: tuple[str, ...],
) -> int:
    verb = replace(VERBS[action], takes="deployment")
    config, options, plan, hardware = load_for_verb(verb, words, config_dirs=config_dirs)
    if isinstance(config.target, LocalTarget):
        return _tell(here(config), options, good=good)
    needs = needs_of(config, make_plan(config, plan, hardware))
    run_commands(commands(config, needs, _folder(options, needs.name), action=action))
    return EXIT_OK


def _tell_all(found: Sequence[Standing], named: _Named) -> None:
    if named.output == "json":
        print(json.dumps({"schema": JSON_SCHEMA, "servers": [asdict(standing) for standing in found]}))
        return
    for standing in found:
        _print(standing)
    if not found:
        print("`deploy up` has started no such server on this machine")


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
    return state_dir(None) / name
