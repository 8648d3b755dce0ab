"""`server.processes` above 1: what one process keeps to itself is refused, as another may be asked next."""

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig


def processes_share_what_they_serve(config: DeployConfig) -> Complaints:
    """Yield what several processes do not serve, each with its reason."""
    server = config.server
    if server.processes == 1:
        return
    several = f"server.processes={server.processes}"
    if server.grpc_port is not None:
        rule = "the port of gRPC is served by one process"
        yield "server.grpc_port", f"{rule}; set it to null, or use server.processes=1"
    if config.vision.preprocess_workers:
        rule = f"{several} decode and cut pictures themselves, each would have workers of its own"
        yield "vision.preprocess_workers", f"{rule}; set it to 0"
    if config.target.kind == "ray_serve":
        rule = "Ray has the socket, and each of its replicas is one process"
        yield "server.processes", f"{rule}; use 1, and more target.min_replicas"
