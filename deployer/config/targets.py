"""Where a deployment runs: one dataclass a kind of target, the group `target` of the tree.

Keys and their comments stand in `conf/target/`; what is made of them in `deployer/targets/` and
`deployer/ray_serve/`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalTarget:
    """This machine, as a process of the one who starts it."""

    kind: Literal["local"]
    name: str | None  # None: the model's name
    state_dir: str | None  # of `deploy up`: pid files and logs; None: $XDG_STATE_HOME/deployer


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemdTarget:
    """A hardened unit of systemd."""

    kind: Literal["systemd"]
    name: str | None
    command: str  # the `deploy` of the machine that runs it
    config_dir: str  # where the unit and its config lie there
    hub_token_file: str | None
    memory_max_bytes: int | None  # None: planned
    after: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposeTarget:
    """One service of Docker Compose."""

    kind: Literal["compose"]
    name: str | None
    image: str | None  # None: built from docs/docker/Dockerfile.*, by that name
    host_port: int
    host_address: str
    hub_token_file: str | None
    shm_bytes: int
    memory_max_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KubernetesTarget:
    """Replicas of a pod, in one of four forms."""

    kind: Literal["kubernetes"]
    form: Literal["deployment", "kserve", "kserve_runtime", "rayservice"]
    name: str | None
    namespace: str
    image: str | None
    image_pull_secret: str | None
    min_replicas: int
    max_replicas: int
    in_flight_per_replica: int | None  # None: engine.max_batch_size
    gpus_per_node: int
    gpu_resource: str
    gpu_tolerated: bool
    node_selector: dict[str, str]
    cpus_per_rank: int
    server_bytes: int
    rank_bytes: int
    shm_bytes: int
    cache_bytes: int
    cache_claim: str | None
    model_claim: str | None
    download_gbps: float
    api_keys_secret: str | None
    hub_token_secret: str | None
    allow_from_namespaces: list[str]
    ray_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RayServeTarget:
    """Replicas of an engine on a Ray cluster, behind one address."""

    kind: Literal["ray_serve"]
    name: str | None
    address: str | None  # None: a cluster of this machine alone
    min_replicas: int
    max_replicas: int
    in_flight_per_replica: int | None
    cpus_per_rank: float
    gpus_per_node: int
    retries: int
    front_replicas: int
    request_timeout_s: float


TargetConfig = LocalTarget | SystemdTarget | ComposeTarget | KubernetesTarget | RayServeTarget
