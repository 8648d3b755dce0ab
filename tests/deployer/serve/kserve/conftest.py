"""The fixtures of `tests/support/serving.py`, and a gRPC port in front of the same application."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from fake_engine import FakeEngine
from serving import engine, make_service

from deployer.serve.app import create_app

__all__ = ["engine"]


@pytest.fixture
async def triton(engine: FakeEngine) -> AsyncGenerator[Callable[..., Any], None]:
    """Return a coroutine function that opens a port and returns tritonclient's client of it."""
    pytest.importorskip("grpc", reason="the gRPC port needs grpcio and protobuf (the extra `grpc`)")
    aio = pytest.importorskip("tritonclient.grpc.aio", reason="the test client of the gRPC port")
    from deployer.serve.kserve.listen import grpc_listening

    async with AsyncExitStack() as running:

        async def open_port(**options: Any) -> Any:
            service = make_service(engine, **options)
            server = replace(service.server, grpc_port=0)
            address = await running.enter_async_context(grpc_listening(create_app(service), server))
            client = aio.InferenceServerClient(address)
            running.push_async_callback(client.close)
            return client

        yield open_port
