"""`target=systemd`: a unit and the config that it serves.

The sandbox leaves it what an engine needs: the network, the GPUs, memory that is executable (kernels are
compiled at run time), its own state and cache folders, and nothing else. Keys arrive as credentials.
"""

import math

from deployer.config.schema import DeployConfig
from deployer.config.targets import SystemdTarget
from deployer.plan.plan import Plan
from deployer.targets.carried import carried, text_of
from deployer.targets.needs import Needs, needs_of
from deployer.targets.written import Rendered, absolute

SANDBOX = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
{devices}"""
NO_DEVICES = "PrivateDevices=yes\n"
GPUS = "DevicePolicy=closed\n" + "".join(
    f"DeviceAllow={name} rw\n"
    for name in ("char-nvidia", "char-nvidia-frontend", "char-nvidia-uvm", "char-nvidia-caps")
)


def render(config: DeployConfig, plan: Plan) -> list[Rendered]:
    """Return the unit and the config. Raises ConfigError or NoFitError for what no unit can run."""
    target = config.target
    assert isinstance(target, SystemdTarget), "chosen by its kind"
    needs = needs_of(config, plan)
    unit, file = unit_file(needs), config_file(needs)
    keys = None if config.server.api_keys_file is None else f"/run/credentials/{unit}/api_keys"
    server = config.server
    there = carried(config, needs, host=server.host, port=server.port, api_keys_file=keys)
    return [
        Rendered(path=unit, text=_unit(config, target, needs)),
        Rendered(path=file, text=text_of(there)),
    ]


def unit_file(needs: Needs) -> str:
    """Return the name of the unit."""
    return f"vlm-deployer-{needs.name}.service"


def config_file(needs: Needs) -> str:
    """Return the name of the config that it serves."""
    return f"vlm-deployer-{needs.name}.yaml"


def _unit(config: DeployConfig, target: SystemdTarget, needs: Needs) -> str:
    after = " ".join(target.after)
    sections = [
        "# Written by `deploy render target=systemd`.",
        "[Unit]",
        f"Description=Vision-language model {config.model.name}",
        *([f"After={after}", f"Wants={after}"] if after else []),
        "StartLimitIntervalSec=1h",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={target.command} {target.config_dir}/{config_file(needs)}",
        "Restart=on-failure",
        "RestartSec=10",
        f"TimeoutStopSec={math.ceil(needs.stop_s)}",
        "KillMode=mixed",  # the server drains; its engine ends with it, or is killed after the time above
        *_files(config, target),
        *_limits(target, needs),
        _sandbox(config, needs).rstrip(),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(sections) + "\n"


def _files(config: DeployConfig, target: SystemdTarget) -> list[str]:
    keys, token = absolute(config.server.api_keys_file), absolute(target.hub_token_file)
    return [
        "CacheDirectory=vlm-deployer",
        "Environment=XDG_CACHE_HOME=%C/vlm-deployer HF_HOME=%C/vlm-deployer/huggingface HOME=%C/vlm-deployer",
        *([f"LoadCredential=api_keys:{keys}"] if keys is not None else []),
        *([f"LoadCredential=hub_token:{token}", "Environment=HF_TOKEN_PATH=%d/hub_token"] if token else []),
    ]


def _limits(target: SystemdTarget, needs: Needs) -> list[str]:
    memory = target.memory_max_bytes or needs.host_bytes
    return [
        "LimitNOFILE=65536",
        "LimitMEMLOCK=infinity",  # buffers that a GPU reads are pinned
        *([f"MemoryMax={memory}", "MemorySwapMax=0"] if memory is not None else []),
    ]


def _sandbox(config: DeployConfig, needs: Needs) -> str:
    in_home = (config.model.path or "").startswith(("/home/", "/root/"))
    home = "read-only" if config.model.hub == "folder" and in_home else "yes"
    return SANDBOX.format(home=home, devices=GPUS if needs.on_gpu else NO_DEVICES)
