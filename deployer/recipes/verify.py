"""`deploy recipe verify`: a lock held against the recipe, its files, the software here and this machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deployer.config.origins import shown_path
from deployer.config.recipe_file import Header
from deployer.config.schema import DeployConfig
from deployer.errors import EXIT_MISMATCH, EXIT_OK, DeployError, LockError, UnavailableError
from deployer.hub import fetch_checkpoint
from deployer.output import take_output
from deployer.recipes.checkpoint import file_faults, locked_model
from deployer.recipes.command import one_recipe
from deployer.recipes.findings import Finding, has_errors, print_findings
from deployer.recipes.flat import Moved, moved, public, shown
from deployer.recipes.lock import pinned
from deployer.recipes.lock_file import Lock, LockedModel, lock_path, read_lock
from deployer.recipes.machine import machine_fault
from deployer.recipes.options import take_words
from deployer.recipes.plan_summary import summary
from deployer.recipes.resolved import Resolved, plan_of, resolve_recipe
from deployer.recipes.smoke import run_smoke
from deployer.recipes.smoke_check import smoke_findings
from deployer.recipes.software import kernels_hash, packages, version_changes
from engines.errors import EngineError

MOST_NAMED = 12  # keys of one kind in one report; the rest are counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """Which checks are made beyond config, files and versions."""

    offline: bool  # take only what was downloaded before
    machine: bool  # hold this machine against the hardware
    smoke: bool  # serve it for a moment and ask it


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print every finding; exit code 5 where one is an error."""
    output, words = take_output(words)
    switches = {"offline": False, "machine": True, "smoke": True}
    taken = take_words(words, verb="recipe verify", switches=switches)
    path = one_recipe(taken.names, config_dirs, verb="recipe verify")
    findings = verify(path, config_dirs, Checks(**taken.switches))
    failed = has_errors(findings)
    end = "verified"
    if failed:
        shown = shown_path(path)
        end = f"differs from its lock; put that back, or accept what is here: deploy recipe upgrade {shown}"
    print_findings(findings, f"{path.stem}: {end}", output=output)
    return EXIT_MISMATCH if failed else EXIT_OK


def verify(path: Path, config_dirs: Sequence[Path], checks: Checks) -> list[Finding]:
    """Return what holds and what does not. Raises ConfigError, LockError where there is nothing to hold."""
    lock = read_lock(lock_path(path))
    resolved, header = resolve_recipe(path, config_dirs)
    findings = [
        Finding(level="ok", part="lock", text=f"{shown_path(lock_path(path))}, written {lock.made.date}")
    ]
    findings += _header_findings(header, lock)
    findings += config_findings(config_moves(resolved, lock), lock, see=shown_path(path))
    config = _as_locked(resolved.config, lock.model)
    findings += _files(config, lock, path, offline=checks.offline)
    findings += software_findings(lock, here=packages(), kernels=kernels_hash())
    findings += _plan_findings(resolved, lock)
    if checks.machine:
        findings += _machine(resolved, lock)
    if checks.smoke and not has_errors(findings):
        findings += _smoke(config, resolved, lock)
    return findings


def _header_findings(header: Header, lock: Lock) -> Iterator[Finding]:
    for name, was in sorted(asdict(lock.recipe).items()):
        now = getattr(header, name)
        if was != now:
            text = f"{name}: {shown(was)} -> {shown(now)}; lock it again"
            yield Finding(level="error", part="recipe", text=text)


def _plan_findings(resolved: Resolved, lock: Lock) -> Iterator[Finding]:
    """Yield how the planned figures of an unchanged config moved: by its formulas, or the hardware's file."""
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    if lock.plan is None or isinstance(plan, str):
        return
    changes = list(moved(lock.plan, summary(plan)))
    for change in changes[:MOST_NAMED]:
        yield Finding(level="warning", part="plan", text=moved_text(change))
    if not changes:
        yield Finding(level="ok", part="plan", text=str(lock.plan["verdict"]))


def config_moves(resolved: Resolved, lock: Lock) -> list[Moved]:
    """Return the keys that no longer resolve to what was locked, with what sets them now."""
    now = public(_as_locked(resolved.config, lock.model))
    where = resolved.composition.origins.where
    return [replace(change, where=where(change.key)) for change in moved(lock.config, now)]


def config_findings(moves: Sequence[Moved], lock: Lock, *, see: str) -> Iterator[Finding]:
    """Yield one finding a moved key, or one that says that all hold; `see` goes into `deploy diff`."""
    for change in moves[:MOST_NAMED]:
        yield Finding(level="error", part="config", text=moved_text(change))
    if len(moves) > MOST_NAMED:
        rest = f"{len(moves) - MOST_NAMED} more keys; deploy diff {lock.recipe.name}.lock.json {see}"
        yield Finding(level="error", part="config", text=rest)
    if not moves:
        yield Finding(level="ok", part="config", text=f"{len(lock.layers)} keys resolve to what was locked")


def moved_text(change: Moved) -> str:
    """Return a moved key as messages show it."""
    where = f" ({change.where})" if change.where else ""
    return f"{change.key}: {shown(change.old)} -> {shown(change.new)}{where}"


def _as_locked(config: DeployConfig, model: LockedModel) -> DeployConfig:
    """Return the deployment at the locked commit, where it still asks for what was locked."""
    asks_the_same = (config.model.hub, config.model.repo) == (model.hub, model.repo)
    if asks_the_same and config.model.revision == model.asked_revision:
        return pinned(config, model.commit)
    return config


def _files(config: DeployConfig, lock: Lock, path: Path, *, offline: bool) -> Iterator[Finding]:
    try:
        folder = fetch_checkpoint(config.model, offline=offline)
    except (DeployError, EngineError) as error:
        way_out = f"; if it is gone for good: deploy recipe upgrade {shown_path(path)}"
        yield Finding(level="error", part="files", text=f"{error}{way_out}")
        return
    here = locked_model(config, folder)
    faults = list(file_faults(lock.model, here))
    yield from (Finding(level="error", part="files", text=text) for text in faults)
    if not faults:
        total = sum(file.bytes for file in lock.model.files.values())
        text = f"{len(lock.model.files)} files, {total:,} bytes, every SHA-256 as locked"
        yield Finding(level="ok", part="files", text=text)


def software_findings(lock: Lock, *, here: Mapping[str, str], kernels: str) -> Iterator[Finding]:
    """Yield how the packages and kernel sources of a machine differ from the locked ones."""
    changes = list(version_changes(lock.packages, here))
    for change in changes:
        text = f"{change.package}: {change.old} -> {change.new}"
        yield Finding(level="error" if change.is_error else "warning", part="versions", text=text)
    if not changes:
        yield Finding(level="ok", part="versions", text=f"{len(lock.packages)} packages as locked")
    if kernels == lock.kernels_sha256:
        yield Finding(level="ok", part="kernels", text="sources as locked")
        return
    plain = lock.config["engine"]["kind"] == "pytorch"
    tail = "engine=pytorch does not use them" if plain else "its answers and times may differ"
    text = f"sources differ from those locked: {tail}"
    yield Finding(level="warning" if plain else "error", part="kernels", text=text)


def _machine(resolved: Resolved, lock: Lock) -> Iterator[Finding]:
    fault = machine_fault(resolved.hardware, devices=resolved.config.engine.tp)
    if fault is None:
        text = f"{resolved.config.engine.tp} x {lock.recipe.hardware}"
        yield Finding(level="ok", part="machine", text=text)
    else:
        text = f"{fault}; machine=false smoke=false verify the rest"
        yield Finding(level="error", part="machine", text=text)


def _smoke(config: DeployConfig, resolved: Resolved, lock: Lock) -> Iterator[Finding]:
    if lock.smoke is None:
        yield Finding(level="warning", part="smoke", text="no answer is locked; lock it where the model runs")
        return
    try:
        now = run_smoke(config)
    except (LockError, UnavailableError, EngineError) as error:
        yield Finding(level="error", part="smoke", text=str(error))
        return
    yield from smoke_findings(lock.smoke, now, tolerance=lock.recipe.tolerance)
