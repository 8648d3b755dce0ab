"""Rules of the group `target`: names, and what a node must have."""

import re

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig
from deployer.config.targets import KubernetesTarget, RayServeTarget

NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
MOST_LETTERS = 47  # of the 63 of a DNS label: Kubernetes appends to it


def target_has_a_label_for_a_name(config: DeployConfig) -> Complaints:
    """Yield a name that no cluster takes."""
    target = config.target
    names = {"name": target.name}
    if isinstance(target, KubernetesTarget):
        names["namespace"] = target.namespace
    for name, value in names.items():
        if value is not None and not (len(value) <= MOST_LETTERS and NAME.fullmatch(value)):
            rule = f"must be lower case letters, digits and -, from a letter on, {MOST_LETTERS} at most"
            yield f"target.{name}", rule


def replicas_are_in_order(config: DeployConfig) -> Complaints:
    """Yield a range of replicas that is empty."""
    target = config.target
    if isinstance(target, KubernetesTarget | RayServeTarget) and target.min_replicas > target.max_replicas:
        yield "target.min_replicas", f"must not be above target.max_replicas={target.max_replicas}"


def ranks_fit_a_node(config: DeployConfig) -> Complaints:
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


def gradio_runs_here(config: DeployConfig) -> Complaints:
    """Yield a Gradio chat on a target that would not publish its port."""
    target = config.target.kind
    if config.server.gradio_port is not None and target not in ("local", "systemd"):
        yield (
            "server.gradio_port",
            f"the chat is served with target=local or target=systemd, not {target}; use server=openai there",
        )
