"""`deploy serve`: from the validated tree to a running server, and to its end."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterable

import uvloop

from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment
from deployer.generation.open_model import check_family
from deployer.recipes.running import describe
from deployer.serve.admission import Admission
from deployer.serve.announce import ready_lines, start_lines, warnings
from deployer.serve.app import create_app
from deployer.serve.listen import bind, check_tls, http_server, url_of
from deployer.serve.logs import set_up_logs
from deployer.serve.metrics import Metrics
from deployer.serve.pricing import Pricing
from deployer.serve.service import Service
from deployer.serve.stop_signals import Interrupted, StopSignals, unless

ABORT_GRACE_S = 2.0  # for the replies of requests that are aborted after the drain
log = logging.getLogger("deployer.serve")


def run(config: DeployConfig) -> int:
    """Serve until a signal; returns the exit code.

    Raises UnavailableError, CheckpointError, ConfigError, DeviceError or EngineError where it cannot start.
    """
    set_up_logs(config.server.log_level)
    refuse_noise(config)
    check_family(config.model)
    check_tls(config.server)
    with bind(config.server) as listener:
        deployment = Deployment.open(config)
        reason = deployment.choice.reason
        _print([*warnings(config, deployment.model), *([reason] if reason else [])])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(deployment, listener))


def refuse_noise(config: DeployConfig) -> None:
    """Raise ConfigError where the answers would be noise and nobody has said that this is wanted."""
    if config.engine.load_format == "random" and not config.server.allow_random_weights:
        raise ConfigError(
            [
                "engine.load_format=random: answers would be noise: use it with `deploy bench`, or set "
                "server.allow_random_weights=true for a load test of the server"
            ]
        )


async def _run(deployment: Deployment, listener: socket.socket) -> int:
    with StopSignals() as signals:
        try:
            ready = await unless(signals.first, deployment.start())
            _print(start_lines(deployment.config, ready, engine=deployment.choice.kind))
            await _serve(_service(deployment), listener, signals)
        except Interrupted:
            log.warning("interrupted before the server was ready")
        finally:
            await deployment.close(at_once=signals.second.is_set())
        return signals.exit_code


def _service(deployment: Deployment) -> Service:
    config = deployment.config
    admission = Admission(config.server.max_requests)
    assert deployment.engine.ready is not None, "a started engine has said what it got"
    return Service(
        engine=deployment.engine,
        prompts=deployment.prompts,
        admission=admission,
        metrics=Metrics(engine=deployment.engine, admission=admission),
        model_name=config.server.model_name or config.model.name,
        created=int(time.time()),
        sampling=config.sampling,
        server=config.server,
        vision=config.vision,
        pricing=Pricing.of(config, deployment.model.spec, deployment.engine.ready),
        running_as=describe(deployment),
    )


async def _serve(service: Service, listener: socket.socket, signals: StopSignals) -> None:
    """Answer requests until a signal, then let those that run end within `server.drain_s`."""
    http = http_server(create_app(service), service.server)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    try:
        while not http.started and not serving.done():
            await asyncio.sleep(0.01)
        if http.started:
            url = url_of(listener, service.server)
            _print(ready_lines(url, service.model_name, needs_key=bool(service.server.api_keys)))
            await unless(signals.first, asyncio.shield(serving))
    except Interrupted:
        pass
    await _drain(service, signals)
    http.should_exit = True
    http.force_exit = signals.second.is_set()
    await serving


async def _drain(service: Service, signals: StopSignals) -> None:
    admission, limit_s = service.admission, service.server.drain_s
    log.info("draining: %d requests in flight, %g s at most", admission.in_flight, limit_s)
    try:
        if not await unless(signals.second, admission.drain(limit_s)):
            log.warning("%d requests are aborted: they outlived server.drain_s", admission.in_flight)
            service.abort_all()
            await unless(signals.second, admission.drain(ABORT_GRACE_S))
    except Interrupted:
        log.warning("%d requests are dropped: a second signal came", admission.in_flight)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)
