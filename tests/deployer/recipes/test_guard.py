"""A locked recipe is served as it was locked, or not at all."""

from dataclasses import replace

import pytest
from ops_repository import Deploy, Ops

from deployer.config.load import load_for_verb
from deployer.errors import LockError
from deployer.recipes.checkpoint import locked_model
from deployer.recipes.flat import public
from deployer.recipes.lock_file import Lock, LockedRecipe, Made, write_lock
from deployer.recipes.resolved import resolve_recipe
from deployer.verbs import VERBS


def test_a_recipe_that_moved_is_not_served(locked: Ops, deploy: Deploy) -> None:
    locked.edit("session_len: 1024", "session_len: 512")
    code, out, err = deploy(locked.recipe)
    assert (code, out) == (5, "")
    assert "prod: no longer what was locked: engine.session_len: 1024 -> 512 (" in err
    assert "accept it: deploy recipe upgrade" in err


def test_words_beside_the_recipe_are_the_operators_own(locked: Ops) -> None:
    (config,) = load_for_verb(VERBS["serve"], [str(locked.recipe), "engine.session_len=512"])
    assert config.engine.session_len == 512


def test_a_recipe_that_moved_can_still_be_looked_at(locked: Ops, deploy: Deploy) -> None:
    locked.edit("session_len: 1024", "session_len: 512")
    code, out, _ = deploy("explain", "engine.session_len", locked.recipe)
    assert code == 0 and "= 512" in out
    assert "tiny on 1 x cpu" in deploy("plan", locked.recipe)[1]


def test_a_lock_edited_by_hand_stops_the_server(locked: Ops) -> None:
    locked.lock.write_text(locked.lock.read_text().replace('"tp": 1', '"tp": 2'))
    with pytest.raises(LockError, match="does not match its own"):
        load_for_verb(VERBS["serve"], [str(locked.recipe)])


def test_the_model_is_served_at_the_locked_commit(ops: Ops) -> None:
    """A branch that moved on the hub changes nothing for a locked recipe."""
    commit = "1" * 40
    (ops.root / "conf/model/tiny.yaml").write_text(
        "# Ours.\ndefaults:\n  - internvl2_1b@_here_\n  - _self_\n\nname: tiny\nrevision: main\n"
    )
    lock = lock_of_a_hub_model(ops)
    write_lock(
        replace(
            lock,
            model=replace(lock.model, commit=commit),
            config={**lock.config, "model": {**lock.config["model"], "revision": commit}},
        ),
        ops.lock,
    )
    (config,) = load_for_verb(VERBS["serve"], [str(ops.recipe)])
    assert config.model.revision == commit
    (other,) = load_for_verb(VERBS["serve"], [str(ops.recipe), "model.revision=dev"])
    assert other.model.revision == "dev"


def lock_of_a_hub_model(ops: Ops) -> Lock:
    """Return the lock of the recipe as if its checkpoint had come from a hub."""
    resolved, header = resolve_recipe(ops.recipe)
    return Lock(
        recipe=LockedRecipe(
            name=header.name, version=header.version, hardware=header.hardware, tolerance=header.tolerance
        ),
        config=public(resolved.config),
        layers={},
        model=replace(locked_model(resolved.config, ops.checkpoint), hub="huggingface"),
        packages={},
        kernels_sha256="",
        plan=None,
        smoke=None,
        made=Made(date="2026-11-22", commit="none", machine="none"),
    )
