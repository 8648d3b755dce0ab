"""Deployments of models that ship, as they are without further words: each is composed once a process."""

from functools import cache

from deployer.config.load import load_config
from deployer.config.schema import DeployConfig


@cache
def deployed(model: str) -> DeployConfig:
    """Return what `+model=<name>` composes to."""
    return load_config([f"+model={model}"])
