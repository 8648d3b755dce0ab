"""A recipe that is served is held to its lock, where it has one.

What the recipe resolves to, without the words that were typed beside it, must be what was locked; those words
are the operator's own. The model is served at the locked commit.
"""

from collections.abc import Sequence
from pathlib import Path

from deployer.config.compose import Composition
from deployer.config.origins import shown_path
from deployer.errors import LockError
from deployer.recipes.lock_file import Lock, lock_path, read_lock
from deployer.recipes.resolved import resolve_recipe
from deployer.recipes.verify import MOST_NAMED, config_moves, moved_text

# Keys that say which checkpoint is meant; a word that sets one of them asks for another than the locked one.
CHECKPOINT_KEYS = ("model.hub", "model.repo", "model.revision", "model.path")


def hold_to_lock(composition: Composition, config_dirs: Sequence[Path]) -> None:
    """Pin the revision of a composition to the locked commit.

    Raises LockError where the recipe no longer resolves to what was locked.
    """
    path = composition.tree.recipe
    if path is None or not lock_path(path).is_file():
        return
    lock = read_lock(lock_path(path))
    resolved, _ = resolve_recipe(path, config_dirs)
    moves = config_moves(resolved, lock)
    if moves:
        raise LockError(_faults([moved_text(change) for change in moves], path))
    _pin(composition, lock, path)


def _faults(moves: list[str], path: Path) -> list[str]:
    way_out = f"see it: deploy recipe diff {shown_path(lock_path(path))} {shown_path(path)}; accept it: "
    named = [f"{path.stem}: no longer what was locked: {text}" for text in moves[:MOST_NAMED]]
    rest = [f"{path.stem}: and {len(moves) - MOST_NAMED} more keys"] if len(moves) > MOST_NAMED else []
    return [*named, *rest, f"{path.stem}: {way_out}deploy recipe upgrade {shown_path(path)}"]


def _pin(composition: Composition, lock: Lock, path: Path) -> None:
    typed = any(
        setting.flag is not None for key in CHECKPOINT_KEYS for setting in composition.origins.of(key)[-1:]
    )
    replaced = composition.values["model"].get("repo") != lock.model.repo  # another `model=` was chosen
    if lock.model.commit is not None and not typed and not replaced:
        composition.values["model"]["revision"] = lock.model.commit
        composition.origins.add_found("model.revision", lock.model.commit, lock_path(path))
