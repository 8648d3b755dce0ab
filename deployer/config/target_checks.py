"""Rules of the group `target`: ranges, names, and what a node must have."""

import re
from collections.abc import Iterator
from dataclasses import fields

from deployer.config.schema import DeployConfig
from deployer.config.targets import KubernetesTarget, RayServeTarget

# A DNS label with room for what Kubernetes appends to it.
NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")
AT_LEAST = {
    "host_port": 1,
    "memory_max_bytes": 1 << 20,
    "min_replicas": 1,
    "max_replicas": 1,
    "in_flight_per_replica": 1,
    "gpus_per_node": 1,
    "cpus_per_rank": 0,
    "server_bytes": 1 << 20,
    "rank_bytes": 0,
    "shm_bytes": 1 << 20,
    "cache_bytes": 1 << 20,
    "retries": 0,
    "front_replicas": 1,
}
ABOVE_ZERO = ("download_gbps", "request_timeout_s")


def target_is_in_range(config: DeployConfig) -> Iterator[tuple[str, str]]:
    """Yield each number of the target that is out of its range, and a name that no cluster takes."""
    target = config.target
    for name in (field.name for field in fields(target)):
        value = getattr(target, name)
        if value is None:
            continue
        if name in AT_LEAST and value < AT_LEAST[name]:
            yield f"target.{name}", f"must be at least {AT_LEAST[name]}"
        if name in ABOVE_ZERO and value <= 0:
            yield f"target.{name}", "must be above 0"
        if name in ("name", "namespace") and not NAME.fullmatch(value):
            yield f"target.{name}", "must be lower case letters, digits and -, from a letter on, 47 at most"


def replicas_are_in_order(config: DeployConfig) -> Iterator[tuple[str, str]]:
    """Yield a range of replicas that is empty."""
    target = config.target
    if isinstance(target, KubernetesTarget | RayServeTarget) and target.min_replicas > target.max_replicas:
        yield "target.min_replicas", f"must not be above target.max_replicas={target.max_replicas}"


def ranks_fit_a_node(config: DeployConfig) -> Iterator[tuple[str, str]]:
    """Yield a split that no node has the GPUs for: the ranks of an engine are processes of one machine."""
    target = config.target
    if not isinstance(target, KubernetesTarget | RayServeTarget):
        return
    if config.engine.tp > target.gpus_per_node:
        yield (
            "engine.tp",
            f"the ranks of one engine share a node, and target.gpus_per_node={target.gpus_per_node}; lower "
            "engine.tp, or raise target.gpus_per_node where the cluster has such nodes",
        )


def gradio_runs_here(config: DeployConfig) -> Iterator[tuple[str, str]]:
    """Yield a Gradio chat on a target that would not publish its port."""
    target = config.target.kind
    if config.server.gradio_port is not None and target not in ("local", "systemd"):
        yield (
            "server.gradio_port",
            f"the chat is served with target=local or target=systemd, not {target}; use server=openai there",
        )
