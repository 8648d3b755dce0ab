"""`deploy up`, `status` and `down` where another program runs the deployment: kubectl, docker, systemctl.

Files are rendered into a folder (`up.out`) and handed to that program; what it says is passed on.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deployer.config.schema import DeployConfig
from deployer.config.targets import ComposeTarget, KubernetesTarget, SystemdTarget
from deployer.errors import UnavailableError, UsageError
from deployer.targets.kubernetes_pod import INSTANCE
from deployer.targets.needs import Needs
from deployer.targets.systemd import config_file, unit_file

ROLLOUT_S = 3600
HOW_TO_GET = {
    "docker": "install Docker with its Compose plugin",
    "kubectl": "install kubectl and point it at a cluster",
    "install": "install coreutils",
    "systemctl": "this machine is not run by systemd",
}


def commands(config: DeployConfig, needs: Needs, folder: Path, *, action: str) -> list[list[str]]:
    """Return the commands that start, show or end a deployment, in order; `folder` has its files."""
    target = config.target
    if isinstance(target, KubernetesTarget):
        return _kubernetes(target, needs, folder, action=action)
    if isinstance(target, ComposeTarget):
        compose = ["docker", "compose", "--project-directory", str(folder)]
        tails = {"up": ["up", "--detach", "--wait"], "status": ["ps"], "down": ["down"]}
        return [[*compose, *tails[action]]]
    if isinstance(target, SystemdTarget):
        return _systemd(target, needs, folder, action=action)
    raise UsageError(f"target={target.kind}: runs in the foreground; `deploy target={target.kind}` starts it")


def run_commands(rows: Sequence[Sequence[str]]) -> None:
    """Run them one after another. Raises UnavailableError where a program is missing, or one fails."""
    for program in dict.fromkeys(row[0] for row in rows):
        if shutil.which(program) is None:
            raise UnavailableError(f"`{program}`: not found on this machine; {HOW_TO_GET[program]}")
    for row in rows:
        code = subprocess.run(list(row), check=False).returncode
        if code != 0 and row[:2] == ["docker", "compose"] and not has_compose():
            raise UnavailableError(f"`docker compose`: no such command here; {HOW_TO_GET['docker']}")
        if code != 0:
            raise UnavailableError(f"`{' '.join(row)}`: ended with exit code {code}; it said why above")


def has_compose() -> bool:
    """Tell whether Docker has its Compose plugin."""
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def refuse_cluster_without_gpus(target: KubernetesTarget, needs: Needs) -> None:
    """Ask the cluster for its nodes. Raises UnavailableError where none could ever hold a pod."""
    if not needs.num_gpus:
        return
    if shutil.which("kubectl") is None:
        raise UnavailableError(f"`kubectl`: not found on this machine; {HOW_TO_GET['kubectl']}")
    asked = subprocess.run(
        ["kubectl", "get", "nodes", "--output=json", "--request-timeout=20s"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        said = asked.stderr.strip().rpartition("\n")[2]  # the lines before are of each attempt
        raise UnavailableError(f"`kubectl get nodes`: the cluster does not answer: {said}")
    check_nodes(asked.stdout, target, needs)


def check_nodes(text: str, target: KubernetesTarget, needs: Needs) -> None:
    """Raise UnavailableError where no node of `kubectl get nodes -o json` has the GPUs of a pod."""
    nodes = {
        node["metadata"]["name"]: int(node["status"].get("allocatable", {}).get(target.gpu_resource, 0))
        for node in json.loads(text)["items"]
    }
    most = max(nodes.values(), default=0)
    if most < needs.num_gpus:
        raise UnavailableError(
            f"target=kubernetes: a pod takes {needs.num_gpus} {target.gpu_resource}, and no node of "
            f"{len(nodes)} has more than {most}; add GPU nodes and their device plugin, lower engine.tp, or "
            "give hardware=cpu"
        )


def _kubernetes(target: KubernetesTarget, needs: Needs, folder: Path, *, action: str) -> list[list[str]]:
    kubectl = ["kubectl", "--namespace", target.namespace]
    label = f"--selector={INSTANCE}={needs.name}"
    if action == "status":
        kinds = {
            "deployment": "deployment",
            "kserve": "inferenceservice",
            "kserve_runtime": "inferenceservice",
            "rayservice": "rayservice",
        }
        return [[*kubectl, "get", f"{kinds[target.form]},pods", label]]
    if action == "down":
        return [[*kubectl, "delete", "--ignore-not-found", f"--filename={folder}"]]
    rows = [[*kubectl, "apply", f"--filename={folder}"]]
    if target.form == "deployment":
        rows.append([*kubectl, "rollout", "status", f"deployment/{needs.name}", f"--timeout={ROLLOUT_S}s"])
    return rows


def _systemd(target: SystemdTarget, needs: Needs, folder: Path, *, action: str) -> list[list[str]]:
    unit, config = unit_file(needs), config_file(needs)
    if action == "status":
        return [["systemctl", "status", "--no-pager", unit]]
    if action == "down":
        return [["systemctl", "disable", "--now", unit]]
    return [
        ["install", "-D", "-m", "644", str(folder / config), f"{target.config_dir}/{config}"],
        ["install", "-D", "-m", "644", str(folder / unit), f"/etc/systemd/system/{unit}"],
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", unit],
    ]
