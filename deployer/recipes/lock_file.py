"""The lock of a recipe: `prod.yaml` has `prod.lock.json` beside it, written by `deploy recipe lock` alone.

Keys are sorted and every text is quoted, so that a change reads well in a review. `sha256` is the hash of all
the rest: a lock that was edited by hand is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from deployer.config.origins import shown_path
from deployer.errors import LockError
from deployer.refused_write import writing

SCHEMA = 1
SUFFIX = ".lock.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """One file of the checkpoint."""

    bytes: int
    sha256: str | None  # None: not made, where a running server tells what it has


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedModel:
    """Which checkpoint."""

    hub: str
    repo: str | None
    asked_revision: str | None  # what the recipe says: a branch, a tag, or nothing
    commit: str | None  # what that was when it was locked; None: not from a hub that tells
    files: dict[str, LockedFile]
    tokenizer_sha256: str
    chat_template: str
    chat_template_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoke:
    """One greedy answer, and what it took."""

    question: str
    picture: bool  # the red circle of `smoke.py` went with it
    answer: str
    engine: str
    device: str
    dtype: str
    machine: str
    figures: dict[str, float]  # first_token_ms, token_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """When and where a lock was written; for people, never compared."""

    date: str
    commit: str
    machine: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedRecipe:
    """Which recipe."""

    name: str
    version: str
    hardware: str
    tolerance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """Everything that decides on what a recipe serves."""

    recipe: LockedRecipe
    config: dict[str, Any]  # nested, without secrets; model.revision is the commit where there is one
    layers: dict[str, list[str]]  # dotted key -> what set it, the last one held
    model: LockedModel
    packages: dict[str, str]
    kernels_sha256: str
    plan: dict[str, Any] | None  # None: this version can't plan the model
    smoke: Smoke | None  # None: it was not run
    made: Made


def lock_path(recipe: Path) -> Path:
    """Return where the lock of a recipe lies."""
    return recipe.with_name(recipe.stem + SUFFIX)


def recipe_path(lock: Path) -> Path:
    """Return the recipe that a lock belongs to."""
    return lock.with_name(lock.name.removesuffix(SUFFIX) + ".yaml")


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock so that it is whole or not there."""
    values = {"schema": SCHEMA, **asdict(lock)}
    text = json.dumps(
        {**values, "sha256": _content_hash(values)}, indent=2, sort_keys=True, ensure_ascii=False
    )
    new = path.with_name(f".{path.name}.new")
    with writing(path):
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(path)


def read_lock(path: Path) -> Lock:
    """Read a lock. Raises LockError where it is no lock, of another schema, or edited by hand."""
    shown = shown_path(path)
    recipe = shown_path(recipe_path(path))
    again = f"write it again: deploy recipe lock {recipe}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        rule = f"there is no such file, so {recipe} is not locked yet"
        raise LockError([f"{shown}: {rule}; lock it: deploy recipe lock {recipe}"]) from error
    except OSError as error:
        raise LockError([f"{shown}: cannot be read, {error.strerror}; {again}"]) from error
    except ValueError as error:
        raise LockError([f"{shown}: is not JSON: {error}; {again}"]) from error
    if not isinstance(values, dict):
        raise LockError([f"{shown}: is not a lock: it must be an object; {again}"])
    _check_schema(values.get("schema"), shown, again)
    given = values.pop("sha256", None)
    if given != _content_hash(values):
        rule = "does not match its own `sha256`: a lock is written by the tool alone"
        raise LockError([f"{shown}: {rule}; take it from version control, or {again}"])
    try:
        return msgspec.convert({key: value for key, value in values.items() if key != "schema"}, Lock)
    except msgspec.ValidationError as error:
        raise LockError([f"{shown}: is not a lock: {error}; {again}"]) from error


def _check_schema(schema: object, shown: str, again: str) -> None:
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise LockError([f"{shown}: is not a lock: it has no `schema` number; {again}"])
    if schema > SCHEMA:
        rule = f"this version reads locks up to schema {SCHEMA}"
        raise LockError([f"{shown}: schema {schema}: {rule}; upgrade the tool: pip install -U vlm-deployer"])
    if schema < SCHEMA:
        raise LockError([f"{shown}: schema {schema}: this version writes schema {SCHEMA}; {again}"])


def _content_hash(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
