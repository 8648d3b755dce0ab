"""The config tree: composed by Hydra, built strictly, checked, explained."""

from deployer.config.load import load_config
from deployer.config.schema import DeployConfig

__all__ = ["DeployConfig", "load_config"]
