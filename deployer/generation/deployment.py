"""A deployment in this process: its checkpoint, its prompt side and its engine. Opened, started, closed.

Opening takes as long as a download may take and touches no device; the engine process begins with `start`.
"""

import os
import signal
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from deployer.config.adapters import adapters_of
from deployer.config.devices import EngineChoice, choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.schema import DeployConfig
from deployer.generation.open_model import OpenedModel, check_family, open_model
from deployer.generation.weight_format import with_weights
from deployer.prompt.assemble import PromptBuilder
from engines.ipc.client import EngineClient
from engines.messages import Ready


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What a config brings up; `async with` starts and closes it."""

    config: DeployConfig
    choice: EngineChoice
    model: OpenedModel
    prompts: PromptBuilder
    engine: EngineClient

    @classmethod
    def open(cls, config: DeployConfig, *, max_restarts: int | None = None) -> Self:
        """Choose the device, find the checkpoint, read its vocabulary and template; blocking.

        `max_restarts`: None takes `engine.max_restarts`. Raises UnavailableError, CheckpointError or
        ConfigError where the deployment cannot start.
        """
        check_family(config.model)
        if max_restarts is not None:
            config = replace(config, engine=replace(config.engine, max_restarts=max_restarts))
        choice = choose_engine(config.engine)
        model = with_weights(
            config,
            open_model(
                config.model, weights=config.engine.load_format == "checkpoint", tower=config.vision.name
            ),
        )
        adapted = replace(model.spec, adapters=adapters_of(config.engine.adapters))
        options = engine_options(config, choice)
        prompts = PromptBuilder(config, model.spec, model.folder, uncut_pixels=options.vision.uncut_pixels)
        engine = EngineClient(
            model.folder,
            adapted,
            options,
            start_timeout_s=config.engine.start_timeout_s,
            max_restarts=config.engine.max_restarts,
            vocabulary=prompts.grammar_vocabulary(),
        )
        return cls(config=config, choice=choice, model=model, prompts=prompts, engine=engine)

    async def start(self) -> Ready:
        """Start the engine and return what it got. Raises EngineError where it cannot start."""
        if self.prompts.pixel_pool is not None:
            self.prompts.pixel_pool.start()
        await self.engine.start()
        assert self.engine.ready is not None, "a started engine has said what it got"
        self.prompts.session_len = self.engine.ready.session_len
        return self.engine.ready

    async def close(self, *, at_once: bool = False) -> None:
        """End the engine process and give back what it held; `at_once` leaves it no time to say goodbye."""
        if at_once and self.engine.pid is not None:
            os.kill(self.engine.pid, signal.SIGKILL)
        await self.engine.close()
        await self.prompts.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
