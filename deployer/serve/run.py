"""`deploy serve`: from the validated tree to a running server, and to its end."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial

import uvloop

from deployer.config.adapters import adapters_of
from deployer.config.schema import DeployConfig, ServerConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment
from deployer.generation.open_model import check_family
from deployer.recipes.running import describe
from deployer.serve.admission import Admission
from deployer.serve.announce import listen_lines, ready_lines, start_lines, warnings
from deployer.serve.app import create_app
from deployer.serve.background import Background
from deployer.serve.gradio_page import check_gradio, gradio_page
from deployer.serve.key_file import check_key_files, needs_key
from deployer.serve.kserve.listen import check_grpc, grpc_listening
from deployer.serve.listen import bind, check_tls, http_server, url_of
from deployer.serve.logs import set_up_logs
from deployer.serve.open_files import allow_open_files
from deployer.serve.pricing import Pricing
from deployer.serve.response_store import ResponseStore
from deployer.serve.service import Service
from deployer.serve.starting import Front, Starting, create_starting_app
from deployer.serve.stop_signals import Interrupted, StopSignals, unless
from deployer.serve.tracing import check_otel
from engines.memory.host_memory import share_arenas

INTERRUPTED = "interrupted before the server was ready"
LAST_REPLIES_S = 0.5  # for answers of requests that the end cuts short
ABORT_GRACE_S = 2.0  # for the replies of requests that are aborted after the drain
log = logging.getLogger("deployer.serve")


def run(config: DeployConfig) -> int:
    """Serve until a signal; returns the exit code.

    Raises UnavailableError, CheckpointError, ConfigError, DeviceError or EngineError where it cannot start.
    """
    share_arenas()  # before there are threads
    set_up_logs(config.server.log_level)
    refuse_noise(config)
    check_family(config.model)
    check_tls(config.server)
    check_grpc(config.server)
    check_gradio(config.server)
    check_key_files(config.server)
    check_otel(config.server)
    allow_open_files(config.server.max_requests)
    with bind(config.server) as listener:
        opening = Background(partial(Deployment.open, config))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_run(config, listener, opening))
    if opening.is_running:  # a download: its threads would hold the process until it is done
        sys.stdout.flush()
        os._exit(code)
    return code


def refuse_noise(config: DeployConfig) -> None:
    """Raise ConfigError where the answers would be noise and nobody has said that this is wanted."""
    if config.engine.load_format == "random" and not config.server.allow_random_weights:
        raise ConfigError(
            [
                "engine.load_format=random: answers would be noise: use it with `deploy bench`, or set "
                "server.allow_random_weights=true for a load test of the server"
            ]
        )


async def _run(config: DeployConfig, listener: socket.socket, opening: Background[Deployment]) -> int:
    starting = Starting.of(config)
    front = Front(create_starting_app(starting))
    with StopSignals() as signals:
        async with (
            _listening(front, config.server, listener, signals),
            grpc_listening(front, config.server) as grpc_address,
        ):
            _print(listen_lines(url_of(listener, config.server), grpc_address))
            try:
                deployment = await unless(signals.first, opening.result())
            except Interrupted:
                log.warning(INTERRUPTED)
            else:
                await _serve(starting, deployment, front, listener, signals)
            finally:
                if starting.tracing is not None:
                    await asyncio.to_thread(starting.tracing.close)
    return signals.exit_code


@asynccontextmanager
async def _listening(
    front: Front, server: ServerConfig, listener: socket.socket, signals: StopSignals
) -> AsyncGenerator[None, None]:
    """Answer on the socket meanwhile; a second signal leaves connections no time."""
    http = http_server(front, server)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    try:
        while not http.started and not serving.done():
            await asyncio.sleep(0.005)
        yield
    finally:
        http.should_exit = True
        http.force_exit = signals.second.is_set()
        await serving


async def _serve(
    starting: Starting,
    deployment: Deployment,
    front: Front,
    listener: socket.socket,
    signals: StopSignals,
) -> None:
    """Start the engine, answer until a signal, then let what runs end within `server.drain_s`."""
    config, reason = deployment.config, deployment.choice.reason
    _print([*warnings(config, deployment.model), *([reason] if reason else [])])
    starting.progress.engine = deployment.engine
    starting.metrics.watch(deployment.engine)
    starting.metrics.watch_pool(deployment.prompts.pixel_pool)
    with ExitStack() as when_nobody_asks:
        try:
            ready = await unless(signals.first, deployment.start())
            _print(start_lines(config, deployment.model, ready, engine=deployment.choice.kind))
            service = when_nobody_asks.enter_context(closing(service_of(starting, deployment)))
            _watch_limits(service, device=ready.device)
            front.app = create_app(service)
            await _answer(service, url_of(listener, config.server), signals)
        except Interrupted:
            log.warning(INTERRUPTED)
        finally:
            await deployment.close(at_once=signals.second.is_set())
            await _drop(starting.admission)


def _watch_limits(service: Service, *, device: str) -> None:
    service.metrics.watch_limits(service.pricing)
    if service.pricing is None:
        log.info("metrics: no percentage of the physical limit: no option of conf/hardware is `%s`", device)


async def _answer(service: Service, url: str, signals: StopSignals) -> None:
    """Say that the server is ready, wait for a signal, and drain."""
    server = service.server
    async with gradio_page(server, url=url, model_name=service.model_name) as address:
        _print(ready_lines(url, service.model_name, needs_key=needs_key(server), gradio_address=address))
        await signals.first.wait()
        await _drain(service, signals)


def service_of(starting: Starting, deployment: Deployment) -> Service:
    """Return what the routes of a started deployment share."""
    config = deployment.config
    assert deployment.engine.ready is not None, "a started engine has said what it got"
    return Service(
        engine=deployment.engine,
        prompts=deployment.prompts,
        admission=starting.admission,
        metrics=starting.metrics,
        tracing=starting.tracing,
        model_name=starting.model_name,
        adapters=tuple(adapter.name for adapter in adapters_of(config.engine.adapters)),
        created=starting.created,
        sampling=config.sampling,
        server=config.server,
        vision=config.vision,
        responses=ResponseStore(config.server.max_stored_bytes),
        pricing=Pricing.of(config, deployment.model.spec, deployment.engine.ready),
        running_as=describe(deployment),
    )


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


async def _drop(admission: Admission) -> None:
    """Answer what is left after the engine is gone: its replies go out first, the rest is cancelled."""
    if not await admission.drain(LAST_REPLIES_S):
        admission.drop()
        await admission.drain(LAST_REPLIES_S)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)
