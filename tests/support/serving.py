"""Fixtures: a server around the fake engine, as an ASGI app in this loop and live on a free port."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from fake_prompts import FakePrompts
from serving_configs import RUNNING, SAMPLING, SERVER, VISION

from deployer.prompt.tool_format import tool_formats
from deployer.serve.admission import Admission
from deployer.serve.app import create_app
from deployer.serve.class_places import ClassPlaces
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.latency_limit import LatencyLimit
from deployer.serve.listen import HttpServer, bind, http_server, url_of
from deployer.serve.metrics import Metrics
from deployer.serve.service import Service
from deployer.serve.tracing import Tracing


def make_service(
    engine: FakeEngine, *, adapters: tuple[str, ...] = (), tracing: Tracing | None = None, **server: Any
) -> Service:
    config = replace(SERVER, **server)
    admission = Admission(config.max_requests, ClassPlaces.of(config), latency=LatencyLimit.of(config))
    return Service(
        engine=engine, prompts=FakePrompts(), admission=admission,
        metrics=Metrics(engine=engine, admission=admission), tracing=tracing, model_name="tiny",
        adapters=adapters, created=1,
        sampling=SAMPLING, server=config, vision=VISION, pricing=None,
        responses=KeptResponses.here(config.max_stored_bytes), running_as=RUNNING,
    )  # fmt: skip


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()
    yield fake
    fake.pixels.close()


@pytest.fixture
def serve(engine: FakeEngine) -> Callable[..., Service]:
    """Return a function that makes a service around the fixture's engine, with changed server options."""
    return lambda **server: make_service(engine, **server)


@pytest.fixture
async def api(engine: FakeEngine) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the app in this loop, no sockets."""
    with closing(make_service(engine)) as service:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def tooled(engine: FakeEngine) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client as `api`, of a model whose template knows tools."""
    with closing(make_service(engine)) as service:
        assert isinstance(service.prompts, FakePrompts)
        service.prompts.tool_format = tool_formats()["hermes"]
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@dataclass
class Live:
    """A server on a port of its own."""

    url: str
    service: Service


@pytest.fixture
async def live(engine: FakeEngine) -> AsyncGenerator[Callable[..., Any], None]:
    """Return a coroutine function that starts a server on a free port; it ends with the test."""
    running: list[tuple[HttpServer, asyncio.Task[None], Service]] = []

    async def start(**options: Any) -> Live:
        service = make_service(engine, **options)
        listener = bind(service.server)
        server = http_server(create_app(service), service.server)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        running.append((server, task, service))
        return Live(url=url_of(listener, service.server), service=service)

    yield start
    for server, task, service in running:
        server.should_exit = server.force_exit = True
        await task
        service.close()
