"""`target=systemd`: a unit that systemd takes, sandboxed, with keys as credentials."""

import shutil
import subprocess
from pathlib import Path

import pytest
from rendering import render_files

UNIT = "vlm-deployer-pocket-vl.service"
ON_CPU = ("+model=pocket_vl", "hardware=cpu", "target=systemd")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("hardware", ["cpu", "h200"])
def test_systemd_itself_finds_no_fault(tmp_path: Path, hardware: str) -> None:
    command = tmp_path / "deploy"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    words = ("+model=pocket_vl", f"hardware={hardware}", "target=systemd", f"target.command={command}")
    unit = tmp_path / UNIT
    unit.write_text(render_files(*words)[UNIT])
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and UNIT not in done.stderr, done.stderr


def test_keys_are_a_credential_and_no_path_of_them_stands_in_the_config(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-1\n")
    files = render_files(*ON_CPU, f"server.api_keys_file={keys}")
    assert f"LoadCredential=api_keys:{keys}\n" in files[UNIT]
    config = files["vlm-deployer-pocket-vl.yaml"]
    assert f"api_keys_file: /run/credentials/{UNIT}/api_keys\n" in config
    assert "sk-1" not in "".join(files.values())


def test_memory_is_limited_to_what_was_planned_for() -> None:
    assert "MemoryMax=4000000000\n" in render_files(*ON_CPU, "hardware.memory_bytes=4000000000")[UNIT]
    assert "MemoryMax=5000000000\n" in render_files(*ON_CPU, "target.memory_max_bytes=5000000000")[UNIT]
    assert "MemoryMax" not in render_files("+model=pocket_vl", "target=systemd")[UNIT]


def test_devices_are_none_or_the_gpus() -> None:
    assert "PrivateDevices=yes\n" in render_files(*ON_CPU)[UNIT]
    on_gpu = render_files("+model=pocket_vl", "target=systemd")[UNIT]
    assert "PrivateDevices" not in on_gpu and "DeviceAllow=char-nvidia rw\n" in on_gpu


def test_a_stop_waits_for_the_drain_and_the_unit_for_what_it_needs() -> None:
    words = ("server.drain_s=90", "target.after=[models.mount]", "target.config_dir=/srv/x")
    unit = render_files(*ON_CPU, *words)[UNIT]
    (stop,) = [int(line.split("=")[1]) for line in unit.splitlines() if line.startswith("TimeoutStopSec=")]
    assert stop > 90
    assert "After=models.mount\nWants=models.mount\n" in unit
    assert "ExecStart=/opt/vlm-deployer/bin/deploy /srv/x/vlm-deployer-pocket-vl.yaml\n" in unit


def test_the_hubs_token_is_a_credential(tmp_path: Path) -> None:
    unit = render_files(*ON_CPU, f"target.hub_token_file={tmp_path / 'token'}")[UNIT]
    assert f"LoadCredential=hub_token:{tmp_path / 'token'}\nEnvironment=HF_TOKEN_PATH=%d/hub_token\n" in unit
