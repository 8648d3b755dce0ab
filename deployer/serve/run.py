"""`deploy serve`: from the validated tree to a running server, and to its end."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial

import uvloop

from deployer.config.schema import DeployConfig, ServerConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment, Opened
from deployer.generation.open_model import check_family
from deployer.serve.announce import listen_lines, print_lines, ready_lines, start_lines, warnings
from deployer.serve.answering import drain, drop, service_of, watch_limits
from deployer.serve.app import create_app
from deployer.serve.background import Background
from deployer.serve.fronts.parent import serve_by_fronts
from deployer.serve.gradio_page import check_gradio, gradio_page
from deployer.serve.key_file import check_key_files, needs_key
from deployer.serve.kserve.listen import check_grpc, grpc_listening
from deployer.serve.listen import bind, check_tls, http_server, url_of
from deployer.serve.logs import set_up_logs
from deployer.serve.open_files import allow_open_files
from deployer.serve.service import Service
from deployer.serve.starting import Front, Starting, create_starting_app
from deployer.serve.stop_signals import INTERRUPTED, Interrupted, StopSignals, unless
from deployer.serve.tracing import check_otel
from engines.memory.host_memory import share_arenas

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
    with (
        bind(config.server) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if config.server.processes == 1:
            opening = Background(partial(Deployment.open, config))
            code = runner.run(_run(config, listener, opening))
            is_opening = opening.is_running
        else:
            opened = Background(partial(Opened.of, config))
            code = runner.run(serve_by_fronts(config, listener, opened))
            is_opening = opened.is_running
    if is_opening:  # a download: its threads would hold the process until it is done
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
            print_lines(listen_lines(url_of(listener, config.server), grpc_address))
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
    print_lines([*warnings(config, deployment.model), *([reason] if reason else [])])
    starting.progress.engine = deployment.engine
    starting.metrics.watch(deployment.engine)
    starting.metrics.watch_pool(deployment.prompts.pixel_pool)
    with ExitStack() as when_nobody_asks:
        try:
            ready = await unless(signals.first, deployment.start())
            print_lines(start_lines(config, deployment.model, ready, engine=deployment.choice.kind))
            service = when_nobody_asks.enter_context(closing(service_of(starting, deployment)))
            watch_limits(service, device=ready.device)
            await _answer(service, front, url_of(listener, config.server), signals)
        except Interrupted:
            log.warning(INTERRUPTED)
        finally:
            await deployment.close(at_once=signals.second.is_set())
            await drop(starting.admission)


async def _answer(service: Service, front: Front, url: str, signals: StopSignals) -> None:
    """Answer and say so, once all ports listen; wait for a signal, and drain."""
    server = service.server
    async with gradio_page(server, url=url, model_name=service.model_name) as address:
        front.app = create_app(service)
        print_lines(ready_lines(url, service.model_name, needs_key=needs_key(server), gradio_address=address))
        await signals.first.wait()
        await drain(service, signals)
