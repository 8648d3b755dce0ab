"""From names in the tree to the code that they stand for; only by these tables, so YAML never names code."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from deployer.config.schema import DeployConfig

# server.kind -> what runs it
SERVERS: Mapping[str, str] = {"openai": "deployer.serve.run:run"}
# target.kind -> what brings a deployment up there
TARGETS: Mapping[str, str] = {
    "local": "deployer.config.resolve:serve_here",
    "ray_serve": "deployer.ray_serve.run:run",
    "compose": "deployer.targets.command:refuse_foreground",
    "kubernetes": "deployer.targets.command:refuse_foreground",
    "systemd": "deployer.targets.command:refuse_foreground",
}

_OWN_PACKAGES = ("deployer.", "engines.")


def entry(name: str) -> Callable[..., Any]:
    """Import `module:function`, from our own packages only."""
    module, _, function = name.partition(":")
    assert module.startswith(_OWN_PACKAGES), f"{name}: entries name our own code"
    found = getattr(import_module(module), function)
    assert callable(found), f"{name}: entries name functions"
    return found  # type: ignore[no-any-return]  # getattr is untyped; checked above


def start(config: DeployConfig) -> int:
    """Bring the deployment up on its target; returns the exit code when it ends."""
    return int(entry(TARGETS[config.target.kind])(config))


def serve_here(config: DeployConfig) -> int:
    """Run the server of the deployment in this process, in the foreground."""
    return int(entry(SERVERS[config.server.kind])(config))
