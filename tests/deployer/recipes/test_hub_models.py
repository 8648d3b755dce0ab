"""Recipes of models on a hub: a branch is locked to its commit, and a commit that is gone is said."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from local_hub import LocalHub, serve
from ops_repository import Deploy, Ops

from deployer.hub import fetch_checkpoint
from deployer.recipes.lock_file import read_lock

REPO = "owner/model"


@pytest.fixture
def hub(ops: Ops, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub that holds the checkpoint of the ops repository's model, which is taken from there."""
    files = {path.name: path.read_bytes() for path in ops.checkpoint.iterdir()}
    model = ops.root / "conf/model/tiny.yaml"
    model.write_text(
        "# Ours.\ndefaults:\n  - internvl2_1b@_here_\n  - _self_\n\n"
        f"name: tiny\nrepo: {REPO}\nrevision: main\ndownload_dir: {tmp_path / 'cache'}\n"
    )
    with serve(LocalHub(REPO, {"main": files})) as found:
        fetch = partial(fetch_checkpoint, endpoint=found.endpoint)
        for module in ("lock", "verify"):
            monkeypatch.setattr(f"deployer.recipes.{module}.fetch_checkpoint", fetch)
        yield found


def lock(ops: Ops, deploy: Deploy) -> str:
    """Lock the recipe and return the commit."""
    code, _, err = deploy("recipe", "lock", ops.recipe, "smoke=false")
    assert code == 0, err
    commit = read_lock(ops.lock).model.commit
    assert commit is not None
    return commit


def test_a_branch_is_locked_to_its_commit(ops: Ops, hub: LocalHub, deploy: Deploy) -> None:
    assert lock(ops, deploy) == hub.commit("main")
    held = read_lock(ops.lock)
    assert held.config["model"]["revision"] == hub.commit("main")
    assert held.model.asked_revision == "main"
    assert deploy("recipe", "verify", ops.recipe, "smoke=false", "machine=false")[0] == 0


def test_a_revision_that_is_gone_from_the_hub_is_said(
    ops: Ops, hub: LocalHub, deploy: Deploy, tmp_path: Path
) -> None:
    commit = lock(ops, deploy)
    hub.files = {"other": hub.files["main"]}
    (tmp_path / "cache").rename(tmp_path / "lost")
    code, out, _ = deploy("recipe", "verify", ops.recipe, "smoke=false")
    assert code == 5
    assert f"model.revision={commit}: must be a branch, tag or commit of {REPO}" in out
    assert "if it is gone for good: deploy recipe upgrade" in out


def test_offline_takes_what_was_downloaded_and_says_what_was_not(
    ops: Ops, hub: LocalHub, deploy: Deploy, tmp_path: Path
) -> None:
    lock(ops, deploy)
    hub.files = {}
    fetched = len(hub.fetched)
    assert deploy("recipe", "verify", ops.recipe, "--offline", "smoke=false")[0] == 0
    assert len(hub.fetched) == fetched
    (tmp_path / "cache").rename(tmp_path / "lost")
    code, out, _ = deploy("recipe", "verify", ops.recipe, "--offline", "smoke=false")
    assert code == 5
    assert f"model.repo={REPO}: cannot be fetched" in out
