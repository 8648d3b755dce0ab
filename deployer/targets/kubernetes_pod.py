"""The pod that serves a deployment: its container, what it asks of a node, when it counts as well.

The same for a Deployment and for KServe. Nothing in it may write but the cache, /tmp and /dev/shm.
"""

import math
from dataclasses import dataclass
from typing import Any

from deployer.config.schema import DeployConfig
from deployer.config.targets import KubernetesTarget
from deployer.targets.carried import FILE
from deployer.targets.needs import PROBE_S, Needs, probes_in

Manifest = dict[str, Any]

# Labels by which our objects find each other: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels
NAME, PART_OF = "app.kubernetes.io/name", "app.kubernetes.io/part-of"
INSTANCE, MANAGED_BY = "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"
CONFIG_DIR = "/etc/vlm-deployer"
KEYS_DIR = "/run/secrets/vlm-deployer"
CACHE_DIR = "/cache"
PORT = 8000
USER = 10001  # of docs/docker/Dockerfile.*; any but root would do
CPU_CORES = 8  # of a replica without a GPU
LEAVE_S = 5  # balancers learn within it that a pod goes


@dataclass(frozen=True, kw_only=True, slots=True)
class PodCase:
    """What a pod is made from."""

    config: DeployConfig
    target: KubernetesTarget
    needs: Needs
    image: str
    config_map: str


def pod_spec(case: PodCase) -> Manifest:
    """Return the spec of the pod."""
    target, needs = case.target, case.needs
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(needs.stop_s + LEAVE_S),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(case)],
        "volumes": volumes(case),
    }
    if target.image_pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": target.image_pull_secret}]
    if target.node_selector:
        spec["nodeSelector"] = dict(sorted(target.node_selector.items()))
    if needs.on_gpu and target.gpu_tolerated:
        spec["tolerations"] = [{"key": target.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    if target.max_replicas > 1:
        spec["topologySpreadConstraints"] = [_spread(needs.name)]
    return spec


def container(case: PodCase) -> Manifest:
    """Return the container that runs the server."""
    needs = case.needs
    return {
        "name": "server",
        "image": case.image,
        "command": ["deploy", f"{CONFIG_DIR}/{FILE}"],
        "env": environment(case),
        "ports": [{"name": name, "containerPort": port} for name, port in ports(case).items()],
        "resources": resources(case),
        # Until it first succeeds, the others wait: download and load take their time.
        "startupProbe": _probe("/health", failures=probes_in(_start_s(case))),
        "readinessProbe": _probe("/ready", failures=1, period_s=5),
        # A server restarts its engine by itself, and says 503 meanwhile: only what lasts longer is stuck.
        "livenessProbe": _probe("/health", failures=probes_in(needs.stuck_s)),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_S)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts(case),
    }


def pod_labels(case: PodCase) -> dict[str, str]:
    """Return the labels that pods of other makers carry too: KServe's, Ray's."""
    return {NAME: "vlm-deployer", INSTANCE: case.needs.name}


def ports(case: PodCase) -> dict[str, int]:
    """Return the ports of the container by name: HTTP, and gRPC where it is served."""
    grpc = case.config.server.grpc_port
    return {"http": PORT} if grpc is None else {"http": PORT, "grpc": grpc}


def resources(case: PodCase) -> Manifest:
    """Return what a node must have: memory is a limit too, CPU is not, so that spare cores are used."""
    target, needs = case.target, case.needs
    memory = needs.host_bytes
    if memory is None:
        memory = target.server_bytes + target.rank_bytes * needs.num_gpus + target.shm_bytes
    gpus = {target.gpu_resource: str(needs.num_gpus)} if needs.num_gpus else {}
    cores = target.cpus_per_rank * needs.num_gpus if needs.num_gpus else CPU_CORES
    disk = target.shm_bytes if target.cache_claim else target.cache_bytes + _downloaded(needs)
    asked = {"cpu": str(cores), "memory": quantity(memory), "ephemeral-storage": quantity(disk)}
    return {"requests": {**asked, **gpus}, "limits": {"memory": quantity(memory), **gpus}}


def environment(case: PodCase) -> list[Manifest]:
    """Return the variables: where caches lie, and the hub's token from its Secret."""
    found: list[Manifest] = [
        {"name": "HOME", "value": "/tmp"},
        {"name": "HF_HOME", "value": f"{CACHE_DIR}/huggingface"},
        {"name": "XDG_CACHE_HOME", "value": CACHE_DIR},
    ]
    secret = case.target.hub_token_secret
    if secret is not None:
        reference = {"secretKeyRef": {"name": secret, "key": "token"}}
        found.append({"name": "HF_TOKEN", "valueFrom": reference})
    return found


def volumes(case: PodCase) -> list[Manifest]:
    """Return what the mounts show."""
    target, needs = case.target, case.needs
    found: list[Manifest] = [
        {"name": "config", "configMap": {"name": case.config_map}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(target.shm_bytes)}},
    ]
    if target.cache_claim is None:
        size = quantity(target.cache_bytes + _downloaded(needs))
        found.append({"name": "cache", "emptyDir": {"sizeLimit": size}})
    else:
        found.append({"name": "cache", "persistentVolumeClaim": {"claimName": target.cache_claim}})
    if target.model_claim is not None:
        claim = {"claimName": target.model_claim, "readOnly": True}
        found.append({"name": "model", "persistentVolumeClaim": claim})
    if target.api_keys_secret is not None:
        found.append({"name": "keys", "secret": {"secretName": target.api_keys_secret, "defaultMode": 0o440}})
    return found


def mounts(case: PodCase) -> list[Manifest]:
    """Return where the volumes show in the container."""
    found: list[Manifest] = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "cache", "mountPath": CACHE_DIR},
    ]
    if case.target.model_claim is not None:
        found.append({"name": "model", "mountPath": case.config.model.path, "readOnly": True})
    if case.target.api_keys_secret is not None:
        found.append({"name": "keys", "mountPath": KEYS_DIR, "readOnly": True})
    return found


def quantity(num_bytes: float) -> str:
    """Return bytes as Kubernetes writes them, rounded up to whole MiB."""
    return f"{math.ceil(num_bytes / 2**20)}Mi"


def _probe(path: str, *, failures: int, period_s: int = PROBE_S) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _start_s(case: PodCase) -> float:
    """Return how long a start may take: the engine's own limit, and the slowest download."""
    return case.needs.start_s + _downloaded(case.needs) / (case.target.download_gbps * 1e9)


def _downloaded(needs: Needs) -> int:
    return needs.checkpoint_bytes if needs.is_downloaded else 0


def _spread(name: str) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {INSTANCE: name}},
    }
