"""`deploy up` through kubectl, docker and systemctl: what is called, and what is told where it cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.cli import main
from deployer.config import load_config
from deployer.config.targets import KubernetesTarget
from deployer.errors import UnavailableError
from deployer.targets.needs import Needs
from deployer.targets.programs import check_nodes

WORDS = ("+model=pocket_vl", "hardware=cpu")
RECORDER = """#!/bin/sh
echo "$(basename $0) $*" >> {log}
exit {code}
"""


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs that note how they were called before all others; returns the note."""
    log = tmp_path / "calls"
    for name in ("kubectl", "docker", "systemctl", "install"):
        program(tmp_path / name, log=log, code=0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return log


def program(path: Path, *, log: Path, code: int) -> None:
    path.write_text(RECORDER.format(log=log, code=code))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("target", "action", "calls"),
    [
        (
            "kubernetes",
            "up",
            ["kubectl --namespace default apply --filename={out}", "kubectl --namespace default rollout"],
        ),
        ("kubernetes", "status", ["kubectl --namespace default get deployment,pods"]),
        ("kubernetes", "down", ["kubectl --namespace default delete --ignore-not-found --filename={out}"]),
        ("compose", "up", ["docker compose --project-directory {out} up --detach --wait"]),
        ("compose", "status", ["docker compose --project-directory {out} ps"]),
        ("compose", "down", ["docker compose --project-directory {out} down"]),
        ("systemd", "status", ["systemctl status --no-pager vlm-deployer-pocket-vl.service"]),
        ("systemd", "down", ["systemctl disable --now vlm-deployer-pocket-vl.service"]),
        (
            "systemd",
            "up",
            [
                "install -D -m 644 {out}/vlm",
                "install -D -m 644 {out}/vlm",
                "systemctl daemon-reload",
                "systemctl enable",
            ],
        ),
    ],
)
def test_the_program_of_a_target_is_called(
    target: str, action: str, calls: list[str], called: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main([action, *WORDS, f"target={target}", f"up.out={out}"]) == 0
    lines = called.read_text().splitlines()
    assert len(lines) == len(calls)
    for line, start in zip(lines, calls, strict=True):
        assert line.startswith(start.format(out=out)), line
    assert out.exists() == (action == "up")


def test_a_program_that_fails_ends_it(
    called: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "kubectl", log=called, code=3)
    assert main(["up", *WORDS, "target=kubernetes", f"up.out={tmp_path / 'out'}"]) == 6
    assert "ended with exit code 3; it said why above" in capsys.readouterr().err
    assert len(called.read_text().splitlines()) == 1, "nothing is waited for"


def test_an_edit_stays_until_up_is_told_to_overwrite_it(
    called: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["up", *WORDS, "target=compose", f"up.out={tmp_path / 'out'}"]
    assert main(words) == 0
    (tmp_path / "out" / "compose.yaml").write_text("mine\n")
    assert main(words) == 5
    assert "or add up.overwrite=true" in capsys.readouterr().err
    assert main([*words, "up.overwrite=true"]) == 0


def test_up_names_its_own_key_where_a_file_stands_in_place_of_the_folder(
    called: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("")
    assert main(["up", *WORDS, "target=compose", f"up.out={tmp_path / 'out'}"]) == 2
    assert f"up.out={tmp_path / 'out'} (command line" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "missing"), [("kubernetes", "kubectl"), ("compose", "docker"), ("systemd", "systemctl")]
)
def test_a_missing_program_is_told_with_the_way_out(
    target: str,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status", *WORDS, f"target={target}"]) == 6
    assert f"`{missing}`: not found on this machine" in capsys.readouterr().err


def test_docker_without_its_compose_plugin_is_told_as_that(
    called: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(called.parent / "docker", log=called, code=125)
    assert main(["status", *WORDS, "target=compose"]) == 6
    assert "`docker compose`: no such command here; install Docker with its" in capsys.readouterr().err
    assert called.read_text().splitlines()[-1].endswith("docker compose version")


def nodes(*gpus: int | None) -> str:
    def node(number: int, count: int | None) -> dict[str, Any]:
        has = {"cpu": "64"} if count is None else {"cpu": "64", "nvidia.com/gpu": str(count)}
        return {"metadata": {"name": f"node{number}"}, "status": {"allocatable": has}}

    return json.dumps({"items": [node(number, count) for number, count in enumerate(gpus)]})


def test_a_cluster_without_gpus_is_refused_before_anything_is_applied() -> None:
    target = load_config(["+model=pocket_vl", "target=kubernetes"]).target
    assert isinstance(target, KubernetesTarget)
    needs = Needs(
        name="x",
        on_gpu=True,
        num_gpus=2,
        checkpoint_bytes=1,
        host_bytes=None,
        is_downloaded=True,
        start_s=1,
        stuck_s=1,
        stop_s=1,
    )
    with pytest.raises(
        UnavailableError, match=r"a pod takes 2 nvidia.com/gpu, and no node of 2 has more than 0"
    ):
        check_nodes(nodes(None, None), target, needs)
    with pytest.raises(UnavailableError, match="no node of 3 has more than 1"):
        check_nodes(nodes(1, 1, 1), target, needs)
    check_nodes(nodes(None, 8), target, needs)


def test_ray_serve_runs_in_the_foreground(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *WORDS, "target=ray_serve"]) == 2
    assert "runs in the foreground" in capsys.readouterr().err
