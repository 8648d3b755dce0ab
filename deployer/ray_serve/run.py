"""`deploy target=ray_serve`: the application on a Ray cluster, in the foreground, until a signal."""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deployer.config.schema import DeployConfig
from deployer.config.targets import RayServeTarget
from deployer.ending_signals import ending_signals
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK, UnavailableError
from deployer.generation.open_model import check_family
from deployer.ray_serve.bundle import bundle_of
from deployer.serve.announce import ready_lines
from deployer.serve.key_file import check_key_files, needs_key
from deployer.serve.run import refuse_noise
from engines.options import DeviceType

NO_RAY = "target=ray_serve: Ray is not installed here; pip install 'vlm-deployer[ray]', or use target=local"


def run(config: DeployConfig) -> int:
    """Serve until a signal; returns the exit code.

    Raises UnavailableError where Ray is not installed, or its cluster lacks what one replica needs.
    """
    ray = import_ray()
    target = config.target
    assert isinstance(target, RayServeTarget), "chosen by its kind"
    refuse_noise(config)
    check_family(config.model)
    check_key_files(config.server)
    if config.server.port == 0:
        raise UnavailableError("server.port=0: the proxies of Ray listen on one port everywhere; choose one")
    _connect(ray, target)
    try:
        has = ray.cluster_resources()
        config = on_device(config, has)
        refuse_small_cluster(config, target, has)
        return _serve(config, target)
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Return the module `ray`. Raises UnavailableError where it is not installed."""
    # Before the import: no report leaves the machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise UnavailableError(NO_RAY) from error
    return ray


def on_device(config: DeployConfig, has: Mapping[str, float]) -> DeployConfig:
    """Return the deployment with engine.device_type=auto settled: Ray reserves before an engine can look."""
    if config.engine.device_type != "auto":
        return config
    device: DeviceType = "cuda" if has.get("GPU") else "cpu"
    return replace(config, engine=replace(config.engine, device_type=device))


def refuse_small_cluster(config: DeployConfig, target: RayServeTarget, has: Mapping[str, float]) -> None:
    """Raise UnavailableError where no replica could ever start on a cluster with these resources."""
    bundle = bundle_of(config, target)
    short = [
        f"{target.min_replicas * count:g} {name} in all, and there are {has.get(name, 0.0):g}"
        for name, count in bundle.items()
        if target.min_replicas * count > has.get(name, 0.0)
    ]
    if short:
        where = f"the Ray cluster {target.address}" if target.address else "this machine"
        raise UnavailableError(
            f"target=ray_serve: {where} lacks what target.min_replicas={target.min_replicas} with "
            f"engine.tp={config.engine.tp} takes: {'; '.join(short)}; add nodes, lower them, or choose "
            "engine=pytorch engine.device_type=cpu"
        )


def _connect(ray: Any, target: RayServeTarget) -> None:
    try:
        ray.init(
            address=target.address, namespace="vlm-deployer", include_dashboard=False, log_to_driver=False
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UnavailableError(
            f"target.address={target.address}: no Ray cluster answers there: {error}"
        ) from error


def _serve(config: DeployConfig, target: RayServeTarget) -> int:
    from ray import serve

    from deployer.ray_serve.application import application

    name = target.name or config.model.name
    server = config.server
    serve.start(
        http_options={"host": server.host, "port": server.port, "request_timeout_s": target.request_timeout_s}
    )
    print(f"start    {target.min_replicas} replicas of {config.model.name} on Ray", flush=True)
    serve.run(application(config), name=name, route_prefix="/")
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host
    model_name = server.model_name or config.model.name
    for line in ready_lines(f"http://{host}:{server.port}", model_name, needs_key=needs_key(server)):
        print(line, flush=True)
    number = wait_for_signal()
    serve.delete(name)
    serve.shutdown()
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_OK


def wait_for_signal() -> int:
    """Return the first signal that comes of those that end a server."""
    came = threading.Event()
    numbers: list[int] = []

    def note(number: int, _: object) -> None:
        numbers.append(number)
        came.set()

    for number in ending_signals():
        signal.signal(number, note)
    while not came.wait(1.0):  # a wait without a limit would not be interrupted
        pass
    return numbers[0]
