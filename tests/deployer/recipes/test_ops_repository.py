"""The way of a recipe: locked, committed, cloned, verified, served, changed, refused, upgraded, drifted."""

import subprocess
from pathlib import Path

import httpx
from live_server import live_server
from ops_repository import Deploy, Ops

from deployer.recipes.lock_file import read_lock


def git(folder: Path, *words: str) -> None:
    """Run git in a folder, as somebody."""
    who = ("-c", "user.name=ops", "-c", "user.email=ops@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, timeout=60)


def test_a_recipe_travels_from_one_repository_to_a_clean_clone(
    ops: Ops, deploy: Deploy, tmp_path: Path
) -> None:
    code, out, err = deploy("recipe", "lock", ops.recipe)
    assert code == 0, err
    assert "smoke   `What colour is the circle?` ->" in out
    smoke = read_lock(ops.lock).smoke
    assert smoke is not None and smoke.picture and (smoke.engine, smoke.device) == ("pytorch", "cpu")
    git(ops.root, "init")
    git(ops.root, "add", ".")
    git(ops.root, "commit", "-m", "prod")
    git(tmp_path, "clone", str(ops.root), "clone")
    clone = Ops(root=tmp_path / "clone", checkpoint=ops.checkpoint)

    code, out, _ = deploy("recipe", "verify", clone.recipe, "--offline")
    assert code == 0, out
    assert f"-> `{smoke.answer}`" in out
    serve_and_drift(clone, deploy)

    weights = ops.checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0x40
    weights.write_bytes(content)
    code, out, _ = deploy("recipe", "verify", clone.recipe)
    assert code == 5 and "`model.safetensors` has other content" in out
    assert deploy("recipe", "upgrade", clone.recipe, "smoke=false")[0] == 0
    assert deploy("recipe", "verify", clone.recipe, "smoke=false")[0] == 0


def serve_and_drift(clone: Ops, deploy: Deploy) -> None:
    """A server of the recipe runs what is locked, but for the port; another session length is drift."""
    port = "server.port: 23333 -> "  # live servers take a free one
    with live_server(str(clone.recipe), "server.api_keys=[k]") as server:
        against = ("--against", server.url, "api_key=k")
        code, out, _ = deploy("recipe", "drift", clone.recipe, *against)
        errors = [line for line in out.splitlines() if line.startswith("error")]
        assert code == 1
        assert [port in line or "server.api_keys: [] -> ['***']" in line for line in errors] == [True, True]
        assert deploy("recipe", "drift", clone.recipe, "--against", server.url)[0] == 6
        told = httpx.get(f"{server.url}/v1/deployment", headers={"authorization": "Bearer k"}).json()
        assert told["engine"]["num_pages"] == 16
        text = clone.recipe.read_text()
        served = text.replace("session_len: 1024", "session_len: 512")
        clone.recipe.write_text(text + "server:\n  port: 0\n  api_keys: [k]\n")
        assert deploy("recipe", "lock", clone.recipe, "smoke=false")[0] == 0
        code, out, _ = deploy("recipe", "drift", clone.recipe, *against)
        assert code == 0, out
        assert f"{server.url} runs what is locked" in out
        clone.recipe.write_text(served)
        assert deploy("recipe", "lock", clone.recipe, "smoke=false")[0] == 0
        code, out, _ = deploy("recipe", "drift", clone.recipe, *against, "output=json")
        assert code == 1
        assert "engine.session_len: 512 -> 1024" in out
        code, out, _ = deploy("diff", clone.recipe, server.url, "api_key=k")
        assert code == 0 and "engine.session_len" in out and "hardware" not in out
    clone.recipe.write_text(text)
    git(clone.root, "checkout", "--", ".")
