"""A lock held against everything that can move under it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from ops_repository import Deploy, Ops

from deployer.assets import resource_dir
from deployer.config.devices import Gpu
from deployer.plan.hardware import Hardware
from deployer.recipes import verify as verify_file
from deployer.recipes.machine import machine_fault


def test_what_was_just_locked_verifies(locked: Ops, deploy: Deploy) -> None:
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 0
    assert out.splitlines()[-1] == "prod: verified"
    assert "every SHA-256 as locked" in out


def test_one_changed_byte_of_the_weights_is_named(locked: Ops, deploy: Deploy) -> None:
    weights = locked.checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert "error    files     `model.safetensors` has other content: SHA-256" in out
    assert out.splitlines()[-1].startswith("prod: differs from its lock; put that back, or accept")


def test_a_missing_a_shorter_and_a_new_file_are_named(locked: Ops, deploy: Deploy) -> None:
    (locked.checkpoint / "tokenizer_config.json").unlink()
    (locked.checkpoint / "config.json").write_text((locked.checkpoint / "config.json").read_text() + " ")
    (locked.checkpoint / "extra.json").write_text("{}")
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert "`tokenizer_config.json` is missing" in out
    assert "`extra.json` was not there when it was locked" in out
    assert "`config.json` has" in out and "bytes, locked were" in out


def test_a_key_that_moved_is_named_with_its_values_and_origin(locked: Ops, deploy: Deploy) -> None:
    locked.edit("num_gpu_blocks: 16", "num_gpu_blocks: 32")
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert "engine.num_gpu_blocks: 16 -> 32 (" in out
    assert "ops/recipes/prod.yaml:19)" in out


def test_a_value_that_a_config_folder_changes_moves_too(locked: Ops, deploy: Deploy) -> None:
    (locked.root / "conf/sampling").mkdir()
    shadow = (
        "temperature: 0.3\ntop_p: 1.0\ntop_k: 0\nmin_p: 0.0\nrepetition_penalty: 1.0\nmax_new_tokens: null\n"
    )
    (locked.root / "conf/sampling/default.yaml").write_text(f"# Ours.\n{shadow}")
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert "-> 0.3 (" in out and "conf/sampling/default.yaml:2" in out


def test_a_new_version_of_the_recipe_is_locked_again(locked: Ops, deploy: Deploy) -> None:
    locked.edit('version: "1"', 'version: "2"')
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert "error    recipe    version: 1 -> 2; lock it again" in out


def test_figures_of_the_plan_that_moved_are_a_warning(locked: Ops, deploy: Deploy) -> None:
    """The file of the hardware is not part of the config; its figures decide on the plan."""
    text = (resource_dir("conf") / "hardware/cpu.yaml").read_text()
    assert "memory_gbps: 89.6" in text
    (locked.root / "conf/hardware").mkdir()
    (locked.root / "conf/hardware/cpu.yaml").write_text(text.replace("memory_gbps: 89.6", "memory_gbps: 40"))
    locked.edit("num_gpu_blocks: 16\n  session_len: 1024", "num_gpu_blocks: 64\n  session_len: 2048")
    assert deploy("recipe", "lock", locked.recipe, "smoke=false")[0] == 0
    (locked.root / "conf/hardware/cpu.yaml").unlink()
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 0
    assert "warning  plan      token_ms: " in out


def test_versions_differ_by_rule(locked: Ops, deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    here = json.loads(locked.lock.read_text())["packages"]
    moved = {**here, "torch": "9.0.0", "pillow": "99.0"}
    monkeypatch.setattr(verify_file, "packages", lambda: moved)
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 5
    assert f"error    versions  torch: {here['torch']} -> 9.0.0" in out
    assert f"warning  versions  pillow: {here['pillow']} -> 99.0" in out


def test_other_kernels_are_a_warning_where_they_are_not_used(
    locked: Ops, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_file, "kernels_hash", lambda: "0" * 64)
    code, out, _ = deploy("recipe", "verify", locked.recipe, "smoke=false")
    assert code == 0
    assert "warning  kernels   sources differ from those locked: engine=pytorch does not use them" in out


def test_a_lock_edited_by_hand_is_refused(locked: Ops, deploy: Deploy) -> None:
    locked.lock.write_text(locked.lock.read_text().replace('"num_gpu_blocks": 16', '"num_gpu_blocks": 64'))
    code, out, err = deploy("recipe", "verify", locked.recipe)
    assert (code, out) == (5, "")
    assert "prod.lock.json: does not match its own `sha256`" in err
    assert "deploy recipe lock" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a lock"),
        ("{", "is not JSON"),
        ("{}", "it has no `schema` number"),
        ('{"schema": 2}', "reads locks up to schema 1; upgrade the tool: pip install -U vlm-deployer"),
        ('{"schema": 0}', "this version writes schema 1"),
    ],
)
def test_what_is_no_lock_of_ours_is_refused(locked: Ops, deploy: Deploy, text: str, message: str) -> None:
    locked.lock.write_text(text)
    code, _, err = deploy("recipe", "verify", locked.recipe)
    assert code == 5
    assert message in err


def test_without_a_lock_there_is_nothing_to_verify(ops: Ops, deploy: Deploy) -> None:
    code, _, err = deploy("recipe", "verify", ops.recipe)
    assert code == 5
    assert "prod.lock.json: there is no such file, so " in err
    assert "is not locked yet; lock it: deploy recipe lock " in err


def test_json_gives_every_finding(locked: Ops, deploy: Deploy) -> None:
    _, out, _ = deploy("recipe", "verify", locked.recipe, "--offline", "smoke=false", "output=json")
    found = json.loads(out)
    assert (found["schema"], found["ok"]) == (1, True)
    assert {row["part"] for row in found["findings"]} == {
        "config", "files", "kernels", "lock", "machine", "plan", "versions",
    }  # fmt: skip


def test_a_gpu_is_known_by_name_and_memory(hardware: Callable[[str], Hardware]) -> None:
    a100 = hardware("a100")
    big = Gpu(name="NVIDIA A100-SXM4-80GB", memory_bytes=a100.memory_bytes, capability=(8, 0))
    other = replace(big, name="NVIDIA A100-SXM4-40GB", memory_bytes=42 * 10**9)
    assert machine_fault(a100, devices=1, probe=lambda: [big]) is None
    assert "here: 1 GPU: NVIDIA A100-SXM4-40GB" in str(machine_fault(a100, devices=1, probe=lambda: [other]))
    assert "needs 2 x a100" in str(machine_fault(a100, devices=2, probe=lambda: [big, other]))
    assert "no GPU that torch sees" in str(machine_fault(a100, devices=1, probe=list))
    memory_bytes = hardware("rtx4090").memory_bytes
    ada = Gpu(name="NVIDIA GeForce RTX 4090", memory_bytes=memory_bytes, capability=(8, 9))
    assert machine_fault(hardware("rtx4090"), devices=1, probe=lambda: [ada]) is None
    assert machine_fault(hardware("cpu"), devices=1, probe=list) is None
