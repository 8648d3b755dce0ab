"""What one replica reserves on a Ray cluster. Ray-free."""

from deployer.config.schema import DeployConfig
from deployer.config.targets import RayServeTarget


def bundle_of(config: DeployConfig, target: RayServeTarget) -> dict[str, float]:
    """Return the cores and GPUs of all ranks of one engine, by Ray's names; they lie on one node."""
    bundle = {"CPU": target.cpus_per_rank * config.engine.tp}
    if config.engine.device_type == "cuda":
        bundle["GPU"] = float(config.engine.tp)
    return bundle
