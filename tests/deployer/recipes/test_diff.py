"""Two deployments: the keys that differ, and what that means."""

import json
from pathlib import Path

import pytest
from ops_repository import Deploy, Ops

from deployer.errors import UsageError
from deployer.recipes.sides import split_sides


def test_a_change_is_told_in_bytes_and_tokens(deploy: Deploy) -> None:
    code, out, _ = deploy("diff", "+model=internvl2_8b", "+model=internvl2_8b", "engine.tp=2", "output=json")
    assert code == 0
    found = json.loads(out)
    assert [(row["key"], row["a"], row["b"]) for row in found["keys"]] == [("engine.tp", 1, 2)]
    assert found["keys"][0]["set_by"] == "command line `engine.tp=2`"
    means = {row["figure"]: row for row in found["meaning"]}
    assert means["page_bytes"]["change"] == -0.5
    assert means["kv_tokens"]["b"] > 2 * means["kv_tokens"]["a"] * 0.99
    assert means["weights_bytes"]["change"] == pytest.approx(-0.456, abs=0.02)


def test_one_deployment_stands_against_itself_with_changes(deploy: Deploy) -> None:
    _, out, _ = deploy("diff", "internvl2_2b_h200", "engine.max_batch_size=256")
    assert "engine.max_batch_size  128  256  command line `engine.max_batch_size=256`" in out
    assert "priced requests at once" in out and "+100.0%" in out


def test_the_page_shows_what_is_printed(deploy: Deploy) -> None:
    page = (Path(__file__).parents[3] / "docs/recipes.md").read_text(encoding="utf-8")
    command = "deploy diff internvl2_8b_h200 engine.tp=2"
    shown = page.partition(f"$ {command}\n")[2].partition("...\n```")[0]
    _, out, _ = deploy(*command.split()[1:])
    assert shown and out.startswith(shown)


def test_times_of_a_measured_and_another_device_are_compared_as_limits(deploy: Deploy) -> None:
    _, out, _ = deploy("recipe", "diff", "internvl2_2b_h200", "internvl2_2b_a100")
    assert "every key is the same" in out
    assert "times are limits" in out


def test_two_locks_differ_in_files_and_versions_too(locked: Ops, deploy: Deploy) -> None:
    other = locked.lock.with_name("before.lock.json")
    other.write_text(locked.lock.read_text())
    locked.edit("session_len: 1024", "session_len: 512")
    (locked.checkpoint / "generation_config.json").write_text("{}")
    assert deploy("recipe", "lock", locked.recipe, "smoke=false")[0] == 0
    code, out, _ = deploy("diff", other, locked.lock)
    assert code == 0
    assert "engine.session_len  1024  512" in out
    assert "files.generation_config.json.bytes" in out


def test_a_recipe_stands_against_its_lock(locked: Ops, deploy: Deploy) -> None:
    _, out, _ = deploy("diff", locked.lock, locked.recipe)
    assert "every key is the same" in out and "planned figures: the same" in out


def test_words_are_split_where_a_deployment_is_named() -> None:
    both = split_sides(["a.yaml", "engine.tp=2", "+recipe=b", "server.port=1"])
    assert both == [["a.yaml", "engine.tp=2"], ["+recipe=b", "server.port=1"]]
    assert split_sides(["a", "engine.tp=2"]) == [["a"], ["a", "engine.tp=2"]]
    for words, message in (
        (["a"], "got 1"),
        (["a", "b", "c"], "got 3"),
        (["engine.tp=2", "a"], "first name"),
    ):
        with pytest.raises(UsageError, match=message):
            split_sides(words)


def test_a_server_that_is_not_there_is_said(deploy: Deploy) -> None:
    code, _, err = deploy("diff", "internvl2_8b_h200", "http://127.0.0.1:9")
    assert code == 6
    assert "http://127.0.0.1:9/v1/deployment:" in err
