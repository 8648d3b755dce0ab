"""`target=compose`: a compose.yaml and the config beside it, by the Compose specification."""

import math

from deployer.config.schema import DeployConfig
from deployer.config.targets import ComposeTarget
from deployer.plan.plan import Plan
from deployer.targets.carried import FILE, carried, text_of
from deployer.targets.images import default_image
from deployer.targets.needs import PROBE_S, Needs, needs_of, probes_in
from deployer.targets.written import Rendered, absolute
from deployer.yaml_text import yaml_text

CONFIG = f"/etc/vlm-deployer/{FILE}"
CACHE = "/cache"
PORT = 8000
HEALTH = (  # the image has Python, and no curl
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"
)


def render(config: DeployConfig, plan: Plan) -> list[Rendered]:
    """Return the files. Raises ConfigError or NoFitError for what no container can run."""
    target = config.target
    assert isinstance(target, ComposeTarget), "chosen by its kind"
    needs = needs_of(config, plan)
    keys = None if config.server.api_keys_file is None else "/run/secrets/api_keys"
    there = carried(config, needs, host="0.0.0.0", port=PORT, api_keys_file=keys)
    secrets = {
        name: {"file": absolute(file)}
        for name, file in (("api_keys", config.server.api_keys_file), ("hub_token", target.hub_token_file))
        if file is not None
    }
    project = {
        "name": needs.name,
        "services": {needs.name: _service(config, target, needs, sorted(secrets))},
        "configs": {"deployment": {"file": f"./{FILE}"}},
        **({"secrets": secrets} if secrets else {}),
        "volumes": {"cache": {}},
    }
    return [
        Rendered(path="compose.yaml", text=yaml_text(project)),
        Rendered(path=FILE, text=text_of(there)),
    ]


def _service(
    config: DeployConfig, target: ComposeTarget, needs: Needs, secrets: list[str]
) -> dict[str, object]:
    environment = {"HOME": "/tmp", "HF_HOME": f"{CACHE}/huggingface", "XDG_CACHE_HOME": CACHE}
    if "hub_token" in secrets:
        environment["HF_TOKEN_PATH"] = "/run/secrets/hub_token"
    mounts = [f"cache:{CACHE}"]
    if config.model.hub == "folder":
        mounts.append(f"{config.model.path}:{config.model.path}:ro")
    return {
        "image": target.image or default_image(on_gpu=needs.on_gpu),
        "command": ["deploy", CONFIG],
        "environment": environment,
        "configs": [{"source": "deployment", "target": CONFIG}],
        **({"secrets": secrets} if secrets else {}),
        "ports": [f"{target.host_address}:{outer}:{inner}" for outer, inner in _ports(config, target)],
        "volumes": mounts,
        "tmpfs": ["/tmp"],
        "shm_size": target.shm_bytes,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,  # reaps what a dead engine leaves
        "restart": "unless-stopped",
        "stop_grace_period": f"{math.ceil(needs.stop_s)}s",
        "healthcheck": {
            "test": ["CMD", "python", "-c", HEALTH],
            "interval": f"{PROBE_S}s",
            "timeout": "5s",
            "retries": probes_in(needs.stuck_s),
            "start_period": f"{math.ceil(needs.start_s)}s",
        },
        "deploy": {"resources": _resources(target, needs)},
    }


def _ports(config: DeployConfig, target: ComposeTarget) -> list[tuple[int, int]]:
    """Return each port of the machine with that of the container: HTTP, and gRPC where it is served."""
    grpc = config.server.grpc_port
    return [(target.host_port, PORT), *([(grpc, grpc)] if grpc is not None else [])]


def _resources(target: ComposeTarget, needs: Needs) -> dict[str, object]:
    memory = target.memory_max_bytes or needs.host_bytes
    found: dict[str, object] = {}
    if memory is not None:
        found["limits"] = {"memory": str(memory)}
    if needs.num_gpus:
        devices = {"driver": "nvidia", "count": needs.num_gpus, "capabilities": ["gpu"]}
        found["reservations"] = {"devices": [devices]}
    return found
