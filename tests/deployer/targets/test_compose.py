"""`target=compose`: one service by the Compose specification."""

from pathlib import Path
from typing import Any

import yaml
from rendering import render_objects

from deployer.config import load_config

WORDS = ("+model=pocket_vl", "target=compose")


def service(*words: str) -> dict[str, Any]:
    project = render_objects(*WORDS, *words)["compose.yaml"]
    (found,) = project["services"].values()
    assert isinstance(found, dict)
    return found


def test_the_config_beside_it_is_what_the_service_serves(tmp_path: Path) -> None:
    files = render_objects(*WORDS, "hardware=cpu", "server.max_requests=7")
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(files["deployment.yaml"]))
    there = load_config([str(tmp_path / "deployment.yaml")])
    assert (there.server.host, there.server.max_requests) == ("0.0.0.0", 7)
    assert there.engine.device_type == "cpu"
    assert files["compose.yaml"]["configs"] == {"deployment": {"file": "./deployment.yaml"}}


def test_gpus_are_reserved_for_each_rank_and_memory_is_limited_on_a_cpu() -> None:
    found = service("engine.tp=2")["deploy"]["resources"]
    assert found == {"reservations": {"devices": [{"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}]}}
    limited = service("hardware=cpu", "hardware.memory_bytes=3000000000")["deploy"]["resources"]
    assert limited == {"limits": {"memory": "3000000000"}}
    own = service("target.memory_max_bytes=9000000000")["deploy"]["resources"]
    assert own["limits"] == {"memory": "9000000000"}


def test_the_port_of_the_machine_and_shared_memory_are_as_asked() -> None:
    found = service("target.host_port=80", "target.host_address=0.0.0.0", "target.shm_bytes=1073741824")
    assert found["ports"] == ["0.0.0.0:80:8000"] and found["shm_size"] == 1073741824
    assert service("server.grpc_port=8001")["ports"] == ["127.0.0.1:23333:8000", "127.0.0.1:8001:8001"]
    assert service("target.image=mine:1")["image"] == "mine:1"
    assert (service()["image"], service("hardware=cpu")["image"]) == ("vlm-deployer:cuda", "vlm-deployer:cpu")


def test_keys_and_the_hubs_token_are_secrets(tmp_path: Path) -> None:
    keys, token = tmp_path / "keys", tmp_path / "token"
    keys.write_text("sk-1\n")
    words = (f"server.api_keys_file={keys}", f"target.hub_token_file={token}")
    project = render_objects(*WORDS, *words)
    assert project["compose.yaml"]["secrets"] == {
        "api_keys": {"file": str(keys)},
        "hub_token": {"file": str(token)},
    }
    assert service(*words)["secrets"] == ["api_keys", "hub_token"]
    assert project["deployment.yaml"]["server"]["api_keys_file"] == "/run/secrets/api_keys"


def test_a_checkpoint_folder_is_mounted_where_it_is(tmp_path: Path) -> None:
    words = ("+model=internvl2_8b", "model.hub=folder", f"model.path={tmp_path}", "target=compose")
    (found,) = render_objects(*words)["compose.yaml"]["services"].values()
    assert f"{tmp_path}:{tmp_path}:ro" in found["volumes"]


def test_the_container_may_write_nothing_but_its_cache() -> None:
    found = service()
    assert found["read_only"] is True and found["cap_drop"] == ["ALL"]
    assert found["volumes"] == ["cache:/cache"] and found["tmpfs"] == ["/tmp"]
