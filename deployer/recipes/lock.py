"""`deploy recipe lock`: everything that decides on what a recipe serves, written beside it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deployer.assets import resource_dir
from deployer.config.explain import leaves
from deployer.config.origins import shown_path
from deployer.config.schema import DeployConfig
from deployer.errors import EXIT_OK, UnavailableError, UsageError
from deployer.hub import fetch_checkpoint
from deployer.plan.plan import Plan
from deployer.recipes.checkpoint import locked_model
from deployer.recipes.command import one_recipe
from deployer.recipes.flat import public
from deployer.recipes.layers import layers, set_by
from deployer.recipes.lock_file import Lock, LockedRecipe, Made, Smoke, lock_path, write_lock
from deployer.recipes.machine import machine_fault, machine_name, tool_commit
from deployer.recipes.options import take_words
from deployer.recipes.plan_summary import summary
from deployer.recipes.resolved import Resolved, plan_of, resolve_recipe
from deployer.recipes.smoke import run_smoke
from deployer.recipes.software import kernels_hash, packages
from engines.errors import EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """A lock that was made, and what a person should know about it."""

    lock: Lock
    notes: list[str]
    origins: Mapping[str, str]  # key -> what set it


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Lock one recipe and say what was locked."""
    taken = take_words(words, verb="recipe lock", switches={"smoke": True})
    path = one_recipe(taken.names, config_dirs, verb="recipe lock")
    refuse_shipped(path)
    made = make_lock(path, config_dirs, smoke=taken.switches["smoke"])
    write_lock(made.lock, lock_path(path))
    print_made(made, path)
    return EXIT_OK


def refuse_shipped(path: Path) -> None:
    """Raise UsageError for a recipe of the package: its lock would change with every release."""
    if path.is_relative_to(resource_dir("recipes")):
        rule = "ships with the package, and is locked where you keep yours"
        raise UsageError(
            f"recipe `{path.stem}`: {rule}: deploy recipe new ops/recipes/mine.yaml from={path.stem}"
        )


def print_made(made: Locked, path: Path) -> None:
    """Print what a written lock holds."""
    lock = made.lock
    total = sum(file.bytes for file in lock.model.files.values())
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"wrote {shown_path(lock_path(path))}")
    print(f"  recipe  {lock.recipe.name} {lock.recipe.version} for {lock.recipe.hardware}")
    print(f"  config  {len(lock.layers)} keys")
    print(f"  model   {lock.model.commit or lock.model.hub}, {len(lock.model.files)} files, {total:,} bytes")
    if lock.plan is not None:
        print(f"  plan    {lock.plan['verdict']}")
    if lock.smoke is not None:
        times = ", ".join(f"{name} {value:g}" for name, value in lock.smoke.figures.items())
        print(f"  smoke   `{lock.smoke.question}` -> `{lock.smoke.answer}`, {times}")


def make_lock(path: Path, config_dirs: Sequence[Path], *, smoke: bool) -> Locked:
    """Resolve a recipe, hash its checkpoint, and ask it one question where it runs here.

    Raises ConfigError, CheckpointError, UnavailableError.
    """
    resolved, header = resolve_recipe(path, config_dirs)
    folder = fetch_checkpoint(resolved.config.model)
    model = locked_model(resolved.config, folder)
    config = pinned(resolved.config, model.commit)
    plan = plan_of(config, resolved.options, resolved.hardware)
    answer, notes = _smoke(config, resolved) if smoke else (None, ["smoke=false: no answer is locked"])
    if isinstance(plan, str):
        notes.append(f"no plan is locked: {plan}")
    values = public(config)
    lock = Lock(
        recipe=LockedRecipe(
            name=header.name, version=header.version, hardware=header.hardware, tolerance=header.tolerance
        ),
        config=values,
        layers=layers(resolved.composition, path, [key for key, _ in leaves(values)]),
        model=model,
        packages=packages(),
        kernels_sha256=kernels_hash(),
        plan=summary(plan) if isinstance(plan, Plan) else None,
        smoke=answer,
        made=Made(date=datetime.now(UTC).date().isoformat(), commit=tool_commit(), machine=machine_name()),
    )
    return Locked(lock=lock, notes=notes, origins=set_by(resolved.composition))


def pinned(config: DeployConfig, commit: str | None) -> DeployConfig:
    """Return the deployment with the model's revision held to a commit."""
    return config if commit is None else replace(config, model=replace(config.model, revision=commit))


def _smoke(config: DeployConfig, resolved: Resolved) -> tuple[Smoke | None, list[str]]:
    """Return the answer, or why there is none: a model that is too big for this machine locks as well."""
    fault = machine_fault(resolved.hardware, devices=config.engine.tp)
    if fault is not None:
        return None, [f"no answer is locked: {fault}"]
    try:
        return run_smoke(config), []
    except (UnavailableError, EngineError) as error:
        return None, [f"no answer is locked: {error}"]
