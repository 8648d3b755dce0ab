"""The parent of a server of several processes: it holds the socket, the engine and the fronts.

    client ──▶ listening socket (here) ──connection──▶ the front with the fewest
    front ──Submit──▶ here ──▶ engine process ──▶ here ──Replies──▶ the front that submitted

A front that dies loses its own requests and is started again; an engine that dies fails those of all fronts
and is started again, as that of a server of one process. This process answers nothing itself.
"""

import asyncio
import logging
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec

from deployer.config.schema import DeployConfig
from deployer.generation.deployment import Opened
from deployer.serve.announce import listen_lines, print_lines, ready_lines, start_lines, warnings
from deployer.serve.answering import ABORT_GRACE_S, LAST_REPLIES_S
from deployer.serve.background import Background
from deployer.serve.fronts.acceptor import Acceptor
from deployer.serve.fronts.crew import Crew
from deployer.serve.fronts.front_latency import ParentLatency
from deployer.serve.fronts.messages import CheckpointOpened, FrontStart
from deployer.serve.fronts.shared_places import places_of
from deployer.serve.gradio_page import gradio_page
from deployer.serve.key_file import needs_key
from deployer.serve.listen import url_of
from deployer.serve.response_store import ResponseStore
from deployer.serve.stop_signals import INTERRUPTED, Interrupted, StopSignals, unless
from engines.ipc.owned_folder import OwnedFolder
from engines.ipc.supervised import SupervisedEngine
from engines.messages import Start

PREFIX = "vlm-fronts-"
END_S = 5.0  # for what a front does around its drain
log = logging.getLogger("deployer.serve")


async def serve_by_fronts(config: DeployConfig, listener: socket.socket, opening: Background[Opened]) -> int:
    """Serve until a signal; returns the exit code. Raises as `run.run` does."""
    url = url_of(listener, config.server)
    with (
        StopSignals() as signals,
        closing(OwnedFolder(Path(tempfile.gettempdir()), PREFIX)) as folder,
        closing(places_of(folder.path, config.server, index=None)) as places,
    ):
        crew = Crew(
            _starts(config, folder.path),
            places,
            responses=ResponseStore(config.server.max_stored_bytes),
            latency=ParentLatency.of(config.server, places),
        )
        async with _fronts(crew, config, listener, signals):
            print_lines(listen_lines(url, None))
            try:
                opened = await unless(signals.first, opening.result())
            except Interrupted:
                log.warning(INTERRUPTED)
            else:
                await _serve(opened, crew, url, signals)
    return signals.exit_code


def _starts(config: DeployConfig, folder: Path) -> list[FrontStart]:
    """Return the first message of each front; all read the keys as they are now, also who starts later."""
    server, created, plain = config.server, int(time.time()), msgspec.json.encode(config)
    keys, admin_keys = (
        _kept(server.api_keys_file, folder / "keys"),
        _kept(server.admin_keys_file, folder / "admin"),
    )
    return [
        FrontStart(
            config=plain,
            keys_file=keys,
            admin_keys_file=admin_keys,
            index=index,
            created=created,
            folder=str(folder),
        )
        for index in range(server.processes)
    ]


def _kept(file: str | None, copy: Path) -> str | None:
    """Return a copy of a file as it is now, in the folder that only this user can read."""
    return None if file is None else str(shutil.copyfile(Path(file).expanduser(), copy))


@asynccontextmanager
async def _fronts(
    crew: Crew, config: DeployConfig, listener: socket.socket, signals: StopSignals
) -> AsyncGenerator[None, None]:
    """Have fronts meanwhile that are given the connections of the socket."""
    acceptor = Acceptor(listener, crew.takers)
    crew.start()
    acceptor.open()
    try:
        yield
    finally:
        crew.signal(signal.SIGTERM)
        await _end(crew, config, signals)
        acceptor.close()


async def _serve(opened: Opened, crew: Crew, url: str, signals: StopSignals) -> None:
    """Start the engine, let the fronts answer until a signal, and wait for their drain."""
    config = opened.config
    print_lines([*warnings(config, opened.model), *([opened.choice.reason] if opened.choice.reason else [])])
    engine = _engine_of(opened, crew)
    server, name = config.server, config.server.model_name or config.model.name
    try:
        # The chat's port listens before any front can say that the server is ready.
        async with gradio_page(server, url=url, model_name=name) as address:
            crew.watch(engine, CheckpointOpened(kind=opened.choice.kind, device=opened.choice.device))
            await unless(signals.first, engine.start())
            assert engine.ready is not None, "a started engine has said what it got"
            print_lines(start_lines(config, opened.model, engine.ready, engine=opened.choice.kind))
            await unless(signals.first, crew.all_answer())
            print_lines(ready_lines(url, name, needs_key=needs_key(server), gradio_address=address))
            await signals.first.wait()
            crew.signal(signal.SIGTERM)
            await _end(crew, config, signals)
    except Interrupted:
        log.warning(INTERRUPTED)
    finally:
        await engine.close(at_once=signals.second.is_set())
        await opened.prompts.aclose()


def _engine_of(opened: Opened, crew: Crew) -> SupervisedEngine:
    """Return the engine of all fronts, not started yet."""
    config = opened.config
    return SupervisedEngine(
        Start(
            folder=str(opened.model.folder),
            spec=opened.adapted,
            options=opened.options,
            vocabulary=opened.prompts.grammar_vocabulary(),
            log_level=config.server.log_level,
        ),
        start_timeout_s=config.engine.start_timeout_s,
        max_restarts=config.engine.max_restarts,
        sink=crew.relay,
        on_change=crew.tell_of_engine,
    )


async def _end(crew: Crew, config: DeployConfig, signals: StopSignals) -> None:
    """Wait until the fronts have drained; a second signal goes to them too."""
    within_s = config.server.drain_s + ABORT_GRACE_S + 2 * LAST_REPLIES_S + END_S
    ending = asyncio.create_task(crew.end(within_s))
    second = asyncio.create_task(signals.second.wait())
    await asyncio.wait((ending, second), return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():
        crew.signal(signal.SIGTERM)
    second.cancel()
    await ending
