"""The application of Ray Serve: a front, and replicas of an engine with the router between them.

`build` is what `serve run` and a RayService import; `deploy target=ray_serve` runs the same. Imports Ray.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict
from typing import Any

import ray.exceptions
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from deployer.config.load import from_plain
from deployer.config.schema import DeployConfig
from deployer.config.targets import RayServeTarget
from deployer.errors import ConfigError
from deployer.ray_serve.bundle import bundle_of
from deployer.ray_serve.engine_replica import EngineReplica
from deployer.ray_serve.front import ReplicaLostError, answer
from deployer.ray_serve.messages import Asked, Head
from deployer.targets.needs import ABORT_S

ENGINE = "engine"
FRONT = "front"
FRONT_REQUESTS = 4096  # in one front; the engines' own limits come first
SCALE_AT = 0.8  # of a replica's places: another one takes minutes to load, so it starts before they are full
LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.WorkerCrashedError)


def build(args: Mapping[str, Any]) -> serve.Application:
    """Return the application of rendered arguments; `deployment` has the config. For `import_path`."""
    return application(from_plain(args["deployment"]))


def application(config: DeployConfig) -> serve.Application:
    """Return the application of a deployment. Raises ConfigError where its target is another one."""
    target = config.target
    if not isinstance(target, RayServeTarget):
        raise ConfigError([f"target={target.kind}: is not one for Ray Serve; render with target=ray_serve"])
    engines = serve.deployment(EngineReplica, **engine_options(config, target))
    front = serve.deployment(Front, **front_options(target))
    bound = engines.bind(asdict(config))
    return front.bind(bound, target.retries)


def engine_options(config: DeployConfig, target: RayServeTarget) -> dict[str, Any]:
    """Return how Ray runs the replicas: a placement group each, on one node, with the GPUs of all ranks."""
    most = target.in_flight_per_replica or config.engine.max_batch_size
    bundle = bundle_of(config, target)
    return {
        "name": ENGINE,
        **_scale(target, most),
        "max_ongoing_requests": most,
        "ray_actor_options": {"num_cpus": bundle["CPU"], "num_gpus": bundle.get("GPU", 0)},
        # NOTE: one bundle, so that Ray shows the actor all of its GPUs: the ranks are its child processes.
        "placement_group_bundles": [bundle],
        "placement_group_strategy": "STRICT_PACK",
        "request_router_config": RequestRouterConfig(
            request_router_class="deployer.ray_serve.router.AffinityRouter"
        ),
        "graceful_shutdown_timeout_s": config.server.drain_s + ABORT_S,
        "health_check_period_s": 5.0,
    }


def front_options(target: RayServeTarget) -> dict[str, Any]:
    """Return how Ray runs the front."""
    return {
        "name": FRONT,
        "num_replicas": target.front_replicas,
        "max_ongoing_requests": FRONT_REQUESTS,
        "ray_actor_options": {"num_cpus": 0},
    }


def _scale(target: RayServeTarget, most: int) -> dict[str, Any]:
    if target.min_replicas == target.max_replicas:
        return {"num_replicas": target.min_replicas}
    scaling = AutoscalingConfig(
        min_replicas=target.min_replicas,
        max_replicas=target.max_replicas,
        target_ongoing_requests=SCALE_AT * most,
    )
    return {"autoscaling_config": scaling}


class Front:
    """The deployment that Ray's HTTP proxy knows."""

    def __init__(self, engines: DeploymentHandle, retries: int) -> None:
        self._retries = retries
        self._engines = engines.options(method_name="answer", stream=True)

    async def __call__(self, request: Request) -> Response:
        return await answer(self, request, retries=self._retries)

    async def ask(self, asked: Asked) -> AsyncGenerator[Head | bytes, None]:
        """Send a request to the replica that the router chooses."""
        pieces = self._engines.remote(asked)
        try:
            async for piece in pieces:
                yield piece
        except LOST as error:
            raise ReplicaLostError(str(error)) from error
        finally:
            pieces.cancel()
