"""What `deploy doctor` finds, on this machine and on others that are told to it."""

import json
import re
import socket
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from machines import CPU_BUILD, TWO_HOPPERS

from deployer.cli import main
from deployer.config import load_config
from deployer.config.devices import Machine
from deployer.doctor.devices import device_findings, driver_version
from deployer.doctor.network import checkpoint_findings
from deployer.doctor.software import EXTRAS, package_findings, program_findings
from deployer.doctor.storage import shared_memory_findings
from deployer.errors import UnavailableError

Captured = pytest.CaptureFixture[str]
POCKET = ["+model=pocket_vl", "engine=pytorch", "engine.device_type=cpu"]


def test_a_machine_that_serves_the_small_model_lacks_nothing_for_it(capsys: Captured) -> None:
    assert main(["doctor", *POCKET, "server.port=0", "output=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    parts = {finding["part"] for finding in told["findings"]}
    assert {"python", "driver", "torch", "engine", "/dev/shm", "disk", "port", "checkpoint"} <= parts
    assert told["ok"] and told["verdict"] == "nothing that `pocket_vl` needs is missing"


def test_a_port_that_is_taken_is_missing(capsys: Captured) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["doctor", *POCKET, f"server.port={taken.getsockname()[1]}"]) == 1
    out = capsys.readouterr().out
    assert "in use on 127.0.0.1" in out and out.endswith("missing for `pocket_vl`: port\n")


def test_a_deployment_that_does_not_hold_is_an_error_of_its_own(capsys: Captured) -> None:
    assert main(["doctor", "+model=pocket_vl", "engine.tpp=2"]) == 3
    assert "unknown key `engine.tpp`" in capsys.readouterr().err


def found(machine: Machine, words: list[str], driver: Path) -> dict[str, tuple[str, str]]:
    config = load_config(words)
    findings = device_findings(config.engine, probe=lambda: machine, driver_file=driver)
    return {finding.part: (finding.level, finding.text) for finding in findings}


def test_a_cpu_build_of_torch_beside_a_driver_says_how_to_get_the_other(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95\nGCC version\n")
    assert driver_version(driver) == "NVIDIA UNIX x86_64 Kernel Module  580.95"
    told = found(CPU_BUILD, ["+model=internvl2_8b", "engine=turbomind"], driver)
    assert told["torch"][0] == "warning" and "pip install --force-reinstall torch" in told["torch"][1]
    assert told["engine"][0] == "error" and "torch 2.13.0+cpu is a CPU build" in told["engine"][1]


def test_a_machine_with_gpus_lists_them(tmp_path: Path) -> None:
    machine = replace(TWO_HOPPERS, npu_error=None)
    told = found(machine, ["+model=internvl2_8b", "engine=turbomind"], tmp_path / "none")
    assert told["gpu 1"] == ("ok", "NVIDIA H200, 140 GiB")
    assert told["engine"][0] == "ok" and "nvrtc" in told


def test_without_torch_there_is_no_engine(tmp_path: Path) -> None:
    def none() -> Machine:
        raise UnavailableError("torch is not installed: every engine needs it")

    findings = list(device_findings(None, probe=none, driver_file=tmp_path / "none"))
    assert [(finding.level, finding.part) for finding in findings] == [("ok", "driver"), ("error", "torch")]


def test_every_extra_of_the_package_is_looked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    for extra in ("browser", "test", "dev"):  # of those who work on it
        del extras[extra]
    packages = {name: [re.split(r"[\[<>=]", line)[0] for line in lines] for name, lines in extras.items()}
    assert {name: list(parts) for name, (parts, _) in EXTRAS.items()} == {
        name: [part for part in parts if part != "vlm-deployer"] for name, parts in packages.items()
    }


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("target=ray_serve", "ray"),
        ("server.grpc_port=8001", "grpc"),
        ("server=gradio", "gradio"),
        ("server.otel_endpoint=http://collector:4318", "otel"),
        ("model.hub=modelscope", "modelscope"),
    ],
)
def test_an_extra_that_the_deployment_asks_for_is_missing_where_it_is_not_installed(
    word: str, extra: str
) -> None:
    def levels(*words: str) -> dict[str, str]:
        config = load_config(["+model=internvl2_8b", *words])
        findings = {f.part: f for f in package_findings(config, look=lambda _: None)}
        assert f"pip install 'vlm-deployer[{extra}]'" in findings[f"extra {extra}"].text
        return {part: finding.level for part, finding in findings.items()}

    assert levels()[f"extra {extra}"] == "warning"
    assert [part for part, level in levels(word).items() if level == "error"] == [f"extra {extra}"]


def test_the_program_of_a_target_is_named_with_the_way_to_it() -> None:
    target = load_config(["+model=internvl2_8b", "target=kubernetes"]).target
    (gone,) = program_findings(target, which=lambda _: None)
    assert gone.level == "warning" and "`deploy up` needs it: install kubectl" in gone.text
    (there,) = program_findings(target, which=lambda _: "/usr/bin/kubectl")
    assert (there.level, there.part, there.text) == ("ok", "kubectl", "/usr/bin/kubectl")
    assert not list(program_findings(load_config(POCKET).target))


def test_docker_without_its_compose_plugin_is_a_lack() -> None:
    target = load_config([*POCKET, "target=compose"]).target
    (lack,) = program_findings(target, which=lambda _: "/bin/docker", compose=lambda: False)
    assert lack.level == "warning" and lack.text.startswith("/bin/docker knows no `docker compose`, and")
    (there,) = program_findings(target, which=lambda _: "/bin/docker", compose=lambda: True)
    assert there.level == "ok"


def test_shared_memory_that_is_too_small_for_a_picture_is_said(tmp_path: Path) -> None:
    config = load_config([*POCKET, "vision.max_image_pixels=1000000000000"])
    (small,) = shared_memory_findings(config, folder=tmp_path)
    assert small.level == "warning" and "--shm-size" in small.text
    (gone,) = shared_memory_findings(config, folder=tmp_path / "gone")
    assert gone.level == "error"


def test_a_checkpoint_that_is_not_here_needs_a_hub_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    model = load_config(["+model=internvl2_8b", f"model.download_dir={tmp_path}"]).model
    there = {f.part: f for f in checkpoint_findings(model, answers=lambda _: None)}
    assert there["hub"].level == "ok" and "is not here yet" in there["checkpoint"].text
    gone = {f.part: f for f in checkpoint_findings(model, answers=lambda _: "no route to host")}
    assert gone["hub"].level == "error" and "model.hub=folder model.path=DIR" in gone["hub"].text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = {f.part: f for f in checkpoint_findings(model, answers=lambda _: None)}
    assert offline["hub"].level == "error" and "HF_HUB_OFFLINE is set" in offline["hub"].text
