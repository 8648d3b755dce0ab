"""What moved is shown, held to this machine, and written."""

import json
import re

import pytest
from ops_repository import Deploy, Ops

from deployer.recipes.lock_file import read_lock


def test_a_recipe_that_moved_verifies_again_after_an_upgrade(locked: Ops, deploy: Deploy) -> None:
    locked.edit("session_len: 1024", "session_len: 512")
    code, out, _ = deploy("recipe", "upgrade", locked.recipe, "smoke=false")
    assert code == 0
    assert re.search(r"engine\.session_len +1024 +512 +\S*prod\.yaml:\d+\n", out), out
    assert "wrote" in out
    assert deploy("recipe", "verify", locked.recipe, "smoke=false")[0] == 0


def test_write_false_shows_and_keeps_the_lock(locked: Ops, deploy: Deploy) -> None:
    before = locked.lock.read_text()
    locked.edit("session_len: 1024", "session_len: 512")
    code, out, _ = deploy("recipe", "upgrade", locked.recipe, "smoke=false", "write=false")
    assert code == 0
    assert "1024  512" in out and "nothing is written" in out
    assert locked.lock.read_text() == before


def test_changed_weights_are_named_by_file(locked: Ops, deploy: Deploy) -> None:
    weights = locked.checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    _, out, _ = deploy("recipe", "upgrade", locked.recipe, "smoke=false")
    assert "files.model.safetensors.sha256" in out
    assert deploy("recipe", "verify", locked.recipe, "smoke=false")[0] == 0


def test_where_nothing_moved_the_lock_stays(locked: Ops, deploy: Deploy) -> None:
    before = locked.lock.read_text()
    code, out, _ = deploy("recipe", "upgrade", locked.recipe, "smoke=false")
    assert (code, locked.lock.read_text()) == (0, before)
    assert "nothing moved" in out


def test_a_recipe_without_a_block_gets_one_and_keeps_its_comments(ops: Ops, deploy: Deploy) -> None:
    ops.recipe.write_text(
        "# What runs in production.\ndefaults:\n  - deploy\n  - model: tiny\n  - _self_\n\n"
        "# the port that the proxy knows\nserver:\n  port: 9000   # ours\n"
    )
    code, _, err = deploy("recipe", "lock", ops.recipe, "smoke=false")
    assert code == 3 and "has no `recipe:` block" in err and "deploy recipe upgrade" in err
    code, _, err = deploy("recipe", "upgrade", ops.recipe)
    assert code == 2 and "add hardware=<name>: `a100`" in err
    code, out, _ = deploy("recipe", "upgrade", ops.recipe, "hardware=cpu")
    assert code == 0 and "+  schema: 1" in out
    text = ops.recipe.read_text()
    assert text.startswith("# What runs in production.\nrecipe:\n  schema: 1\n  name: prod\n")
    assert "description: What runs in production." in text
    assert "# the port that the proxy knows\nserver:\n  port: 9000   # ours\n" in text
    assert deploy("recipe", "lock", ops.recipe, "smoke=false")[0] == 0


def test_a_recipe_of_a_newer_schema_asks_for_a_newer_tool(ops: Ops, deploy: Deploy) -> None:
    ops.edit("schema: 1", "schema: 2\n  what_we_do_not_know: 3")
    for words in (["explain"], ["recipe", "lock"], ["recipe", "upgrade"], ["recipe", "show"]):
        code, out, err = deploy(*words, ops.recipe)
        assert (code, out) == (3, "")
        assert "recipe.schema=2: this version reads recipes up to schema 1; upgrade the tool" in err
        assert "what_we_do_not_know" not in err


def test_an_older_schema_is_upgraded_by_name(ops: Ops, deploy: Deploy) -> None:
    ops.edit("schema: 1", "schema: 0")
    code, _, err = deploy("explain", ops.recipe)
    assert code == 3 and "deploy recipe upgrade" in err


def test_a_shipped_recipe_is_copied_before_it_is_locked(deploy: Deploy) -> None:
    code, _, err = deploy("recipe", "lock", "internvl2_8b_h200")
    assert code == 2
    assert "deploy recipe new ops/recipes/mine.yaml from=internvl2_8b_h200" in err


def test_the_lock_is_sorted_and_every_text_is_quoted(locked: Ops) -> None:
    text = locked.lock.read_text()
    values = json.loads(text)
    assert text == json.dumps(values, indent=2, sort_keys=True) + "\n"
    assert list(values["model"]["files"]) == sorted(values["model"]["files"])


def test_the_lock_names_the_layers_of_each_key(locked: Ops) -> None:
    lock = read_lock(locked.lock)
    assert lock.layers["engine.session_len"] == ["deployer:conf/engine/_runtime.yaml", "prod.yaml"]
    assert lock.layers["model.name"] == ["deployer:conf/model/local.yaml", "../conf/model/tiny.yaml"]


@pytest.mark.parametrize("key", ["secret-key-1"])
def test_secrets_are_in_no_lock(ops: Ops, deploy: Deploy, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_KEY", key)
    ops.recipe.write_text(ops.recipe.read_text() + "server:\n  api_keys: ['${oc.env:OPS_KEY}']\n")
    assert deploy("recipe", "lock", ops.recipe, "smoke=false")[0] == 0
    assert key not in ops.lock.read_text()
    monkeypatch.setenv("OPS_KEY", "another")
    assert deploy("recipe", "verify", ops.recipe, "smoke=false")[0] == 0


def test_a_file_that_is_no_text_is_refused(ops: Ops, deploy: Deploy) -> None:
    ops.recipe.write_bytes(b"# \xe9\n" + ops.recipe.read_bytes())
    code, out, err = deploy("recipe", "upgrade", ops.recipe)
    assert (code, out) == (3, "")
    assert "cannot be read: 'utf-8' codec" in err
