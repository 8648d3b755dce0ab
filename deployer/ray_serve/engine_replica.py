"""One replica: a whole server of ours without its socket. An actor of Ray, wrapped by `application.py`."""

import logging
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from deployer.config.load import from_plain
from deployer.generation.deployment import Deployment
from deployer.ray_serve.asgi_call import call
from deployer.ray_serve.messages import Asked, Head
from deployer.serve.answering import service_of
from deployer.serve.app import create_app
from deployer.serve.starting import Starting
from engines.errors import EngineDeadError

log = logging.getLogger("deployer.ray_serve")


class EngineReplica:
    """Starts an engine and answers requests with it."""

    async def __init__(self, values: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        """Start; `values` are a deployment as plain values."""
        config = from_plain(values)
        self._name = _own_name()
        self._deployment = Deployment.open(config)
        starting = Starting.of(config)
        starting.metrics.watch(self._deployment.engine)
        await self._deployment.start()
        self._app = create_app(service_of(starting, self._deployment))

    async def answer(self, asked: Asked) -> AsyncGenerator[Head | bytes, None]:
        """Yield the head of the answer, then its body."""
        async for piece in call(self._app, asked, replica=self._name):
            yield piece

    async def where(self) -> tuple[str, int]:
        """Return the name of this replica and its process."""
        return self._name, os.getpid()

    async def check_health(self) -> None:
        """Raise where the engine has given up; Ray then replaces this replica."""
        engine = self._deployment.engine
        if engine.state == "dead":
            raise EngineDeadError(f"the engine has given up: {engine.fault}")


def _own_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
