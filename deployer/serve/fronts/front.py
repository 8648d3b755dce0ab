"""One of the processes that answer: `python -m deployer.serve.fronts.front CHANNEL CONNECTIONS`.

The arguments are the numbers of two open files: the end of a socket pair for messages (`messages.py`), and
one that connections come over. It answers as a server of one process does, with the engine of its parent. A
signal lets it drain; when its parent is gone it ends at once.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from deployer.config.load import from_plain
from deployer.config.schema import DeployConfig
from deployer.errors import DeployError
from deployer.generation.deployment import Deployment, Opened
from deployer.serve.answering import drain, drop, service_of, watch_limits
from deployer.serve.app import create_app
from deployer.serve.background import Background
from deployer.serve.fronts.front_latency import FrontLatency
from deployer.serve.fronts.handover import HandedConnections
from deployer.serve.fronts.messages import Answering, FrontFailed, Listening
from deployer.serve.fronts.parent_link import ParentLink
from deployer.serve.fronts.shared_figures import SharedFigures
from deployer.serve.fronts.shared_places import SharedPlaces, places_of
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.latency_limit import has_target
from deployer.serve.listen import http_server
from deployer.serve.logs import set_up_logs
from deployer.serve.open_files import allow_open_files
from deployer.serve.starting import Front, Starting, create_starting_app
from deployer.serve.stop_signals import Interrupted, StopSignals, unless
from engines.errors import EngineError
from engines.memory.host_memory import share_arenas

BEAT_S = 1.0


def main() -> int:
    """Serve until a signal; returns the exit code."""
    share_arenas()  # before there are threads
    channel, connections = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(channel, connections))


async def _run(channel: socket.socket, connections: socket.socket) -> int:
    parent = ParentLink()
    await parent.listen(channel, on_end=_leave)
    start = await parent.start
    config = from_plain(msgspec.json.decode(start.config))
    set_up_logs(config.server.log_level, process=start.index)
    allow_open_files(config.server.max_requests)
    server = replace(config.server, api_keys_file=start.keys_file, admin_keys_file=start.admin_keys_file)
    folder = Path(start.folder)
    places = places_of(folder, config.server, index=start.index)
    starting = Starting.of(
        replace(config, server=server),
        created=start.created,
        held=places,
        latency=FrontLatency(parent.tell, places) if has_target(config.server) else None,
        shared=SharedFigures(folder, places.pids),
    )
    front = Front(create_starting_app(starting))
    with StopSignals() as signals:
        async with _beating(places), _listening(front, starting, connections, places, signals):
            parent.tell(Listening())
            try:
                await _serve(config, starting, front, parent, signals)
            except (DeployError, EngineError) as error:
                parent.tell(FrontFailed(message=str(error)))
                return 1
            finally:
                if starting.tracing is not None:
                    await asyncio.to_thread(starting.tracing.close)
    return 0


async def _serve(
    config: DeployConfig, starting: Starting, front: Front, parent: ParentLink, signals: StopSignals
) -> None:
    """Answer from when the engine is ready until a signal, then let what runs end."""
    with ExitStack() as when_nobody_asks:
        deployment: Deployment | None = None
        try:
            choice = await unless(signals.first, parent.opened)
            opening = Background(partial(Opened.of, config, choice=choice))
            starting.progress.engine = parent.engine
            starting.metrics.watch(parent.engine)
            deployment = Deployment.around(await unless(signals.first, opening.result()), parent.engine)
            await unless(signals.first, parent.engine_is_ready.wait())
            ready = await deployment.start()
            responses = KeptResponses(config.server.max_stored_bytes, parent.ask_store)
            service = when_nobody_asks.enter_context(
                closing(
                    service_of(starting, deployment, responses=responses, end_anywhere=parent.end_request)
                )
            )
            parent.service = service
            watch_limits(service, device=ready.device)
            front.app = create_app(service)
            parent.tell(Answering(fingerprint=service.running_as.fingerprint))
            await signals.first.wait()
            await drain(service, signals)
        except Interrupted:
            pass  # the parent says so
        finally:
            await parent.engine.close()
            if deployment is not None:
                await deployment.close()
            await drop(starting.admission)


@asynccontextmanager
async def _listening(
    front: Front,
    starting: Starting,
    connections: socket.socket,
    places: SharedPlaces,
    signals: StopSignals,
) -> AsyncGenerator[None, None]:
    """Answer on the connections that come meanwhile; a second signal leaves them no time."""
    http = http_server(front, starting.config.server)
    serving = asyncio.create_task(http.serve(sockets=[]))
    while not http.started and not serving.done():
        await asyncio.sleep(0.005)
    handed = HandedConnections(http, connections, on_closed=places.connection_closed)
    handed.open()
    try:
        yield
    finally:
        handed.close()
        http.should_exit = True
        http.force_exit = signals.second.is_set()
        await serving


@asynccontextmanager
async def _beating(places: SharedPlaces) -> AsyncGenerator[None, None]:
    """Say meanwhile that this process lives and takes turns."""

    async def beat() -> None:
        while True:
            places.beat()
            await asyncio.sleep(BEAT_S)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


def _leave() -> None:
    """End at once: with the parent the engine is gone, and the socket."""
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
