"""`deploy recipe upgrade`: a recipe of an older schema is rewritten; a lock is resolved anew, shown, held to
this machine, and written where nothing speaks against it.
"""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deployer.config.origins import shown_path
from deployer.config.recipe_file import BLOCK, SCHEMA, check_schema
from deployer.config.suggest import quoted
from deployer.config.tree import config_tree
from deployer.errors import EXIT_MISMATCH, EXIT_OK, ConfigError, UsageError
from deployer.recipes.command import one_recipe
from deployer.recipes.diff import difference, print_difference
from deployer.recipes.findings import Finding, has_errors, print_findings
from deployer.recipes.lock import Locked, make_lock, refuse_shipped
from deployer.recipes.lock_file import Lock, lock_path, read_lock, write_lock
from deployer.recipes.migrations import About, migrate, schema_of
from deployer.recipes.options import take_words
from deployer.recipes.rewrite import rewrite
from deployer.recipes.sides import side_of_lock
from deployer.recipes.smoke_check import smoke_findings
from deployer.refused_write import writing


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Show what moves and write it; exit code 5 where the new state does not hold here."""
    switches = {"write": True, "smoke": True}
    taken = take_words(words, verb="recipe upgrade", switches=switches, texts=("hardware",))
    path = one_recipe(taken.names, config_dirs, verb="recipe upgrade")
    refuse_shipped(path)
    write = taken.switches["write"]
    text = _text(path)
    values = _content(text, path)
    if schema_of(values) < SCHEMA:
        about = _about(values, text, path, taken.texts.get("hardware"), config_dirs)
        _rewrite(path, text, values, migrate(values, about), write=write)
        if not write:
            return EXIT_OK
    if not lock_path(path).is_file():
        print(f"{shown_path(path)}: schema {SCHEMA}; it is not locked: deploy recipe lock {shown_path(path)}")
        return EXIT_OK
    return _relock(path, config_dirs, write=write, smoke=taken.switches["smoke"])


def _relock(path: Path, config_dirs: Sequence[Path], *, write: bool, smoke: bool) -> int:
    old = read_lock(lock_path(path))
    made = make_lock(path, config_dirs, smoke=smoke)
    new = made.lock
    if not smoke:
        new = replace(new, smoke=old.smoke)
    print_difference(
        difference(
            side_of_lock(old, f"{shown_path(lock_path(path))}, written {old.made.date}", config_dirs),
            replace(side_of_lock(new, "resolved now", config_dirs), origins=made.origins),
        ),
        sys.stdout,
    )
    findings = _findings(made, old) if smoke else []
    if findings:
        print()
        print_findings(findings, "", output="table")
    return _finish(path, old, new, write=write, holds=not has_errors(findings))


def _finish(path: Path, old: Lock, new: Lock, *, write: bool, holds: bool) -> int:
    if not holds:
        print(f"{path.stem}: not written: what is resolved now is slower than its lock allows")
        return EXIT_MISMATCH
    if _decides(old) == _decides(new):
        print(f"{path.stem}: nothing moved; the lock stays as it is")
    elif not write:
        print(f"{path.stem}: write=false: nothing is written")
    else:
        write_lock(new, lock_path(path))
        print(f"wrote {shown_path(lock_path(path))}")
    return EXIT_OK


def _findings(made: Locked, old: Lock) -> list[Finding]:
    notes = [Finding(level="warning", part="smoke", text=note) for note in made.notes]
    if old.smoke is None or made.lock.smoke is None:
        return notes
    held = smoke_findings(old.smoke, made.lock.smoke, tolerance=old.recipe.tolerance)
    # another answer is what an upgrade may bring: it is shown, and written if the rest holds
    return notes + [
        replace(finding, level="warning")
        if finding.level == "error" and "was answered" in finding.text
        else finding
        for finding in held
    ]


def _decides(lock: Lock) -> Lock:
    """Return a lock without what changes from one run to the next."""
    smoke = None if lock.smoke is None else replace(lock.smoke, figures={}, machine="")
    return replace(lock, made=replace(lock.made, date="", commit="", machine=""), smoke=smoke)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{shown_path(path)}: cannot be read: {error}"]) from error


def _content(text: str, path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError([f"{shown_path(path)}: is not YAML: {str(error).splitlines()[0]}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{shown_path(path)}: a recipe holds keys and values"])
    block = values.get(BLOCK)
    if isinstance(block, dict) and schema_of(values) > SCHEMA:
        check_schema(block, path)
    return values


def _about(
    values: dict[str, Any], text: str, path: Path, hardware: str | None, config_dirs: Sequence[Path]
) -> About:
    """Return what a recipe without a block does not say itself. Raises UsageError."""
    known = config_tree(None, config_dirs).options("hardware")
    if BLOCK not in values and hardware not in known:
        rule = f"the recipe has no `{BLOCK}:` block yet, which names its hardware"
        raise UsageError(f"{shown_path(path)}: {rule}; add hardware=<name>: {quoted(known)}")
    first = text.splitlines()[0] if text else ""
    description = first.lstrip("# ").strip() if first.startswith("#") else path.stem
    return About(name=path.stem, description=description, hardware=hardware or "")


def _rewrite(path: Path, text: str, old: dict[str, Any], new: dict[str, Any], *, write: bool) -> None:
    after = rewrite(text, old, new)
    shown = shown_path(path)
    lines = difflib.unified_diff(
        text.splitlines(), after.splitlines(), shown, f"{shown}, schema {SCHEMA}", lineterm=""
    )
    print("\n".join(lines))
    if write:
        with writing(path):
            path.write_text(after, encoding="utf-8")
        print(f"wrote {shown}")
