"""A deployment in this process: its checkpoint, its prompt side and its engine. Opened, started, closed.

Opening takes as long as a download may take and touches no device; the engine process begins with `start`.
"""

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
from engines.engine import Engine
from engines.ipc.client import EngineClient
from engines.messages import Ready
from engines.options import EngineOptions
from engines.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A config whose device is chosen and whose checkpoint is read, before there is an engine."""

    config: DeployConfig
    choice: EngineChoice
    model: OpenedModel
    options: EngineOptions
    prompts: PromptBuilder

    @classmethod
    def of(cls, config: DeployConfig, *, choice: EngineChoice | None = None) -> Self:
        """Choose the device (`choice`: it is chosen), find the checkpoint, read its vocabulary; blocking.

        Raises UnavailableError, CheckpointError or ConfigError where the deployment cannot start.
        """
        check_family(config.model)
        chosen = choice or choose_engine(config.engine)
        model = with_weights(
            config,
            open_model(
                config.model, weights=config.engine.load_format == "checkpoint", tower=config.vision.name
            ),
        )
        options = engine_options(config, chosen)
        prompts = PromptBuilder(config, model.spec, model.folder, uncut_pixels=options.vision.uncut_pixels)
        return cls(config=config, choice=chosen, model=model, options=options, prompts=prompts)

    @property
    def adapted(self) -> ModelSpec:
        """The model with the adapters that are served beside it."""
        return replace(self.model.spec, adapters=adapters_of(self.config.engine.adapters))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What a config brings up; `async with` starts and closes it."""

    config: DeployConfig
    choice: EngineChoice
    model: OpenedModel
    prompts: PromptBuilder
    engine: Engine

    @classmethod
    def open(cls, config: DeployConfig, *, max_restarts: int | None = None) -> Self:
        """Open what `Opened.of` does, with an engine of its own; blocking, raises likewise.

        `max_restarts`: None takes `engine.max_restarts`.
        """
        if max_restarts is not None:
            config = replace(config, engine=replace(config.engine, max_restarts=max_restarts))
        opened = Opened.of(config)
        engine = EngineClient(
            opened.model.folder,
            opened.adapted,
            opened.options,
            start_timeout_s=config.engine.start_timeout_s,
            max_restarts=config.engine.max_restarts,
            vocabulary=opened.prompts.grammar_vocabulary(),
            log_level=config.server.log_level,
        )
        return cls.around(opened, engine)

    @classmethod
    def around(cls, opened: Opened, engine: Engine) -> Self:
        """Return the deployment of an engine that is made already."""
        return cls(
            config=opened.config,
            choice=opened.choice,
            model=opened.model,
            prompts=opened.prompts,
            engine=engine,
        )

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
        await self.engine.close(at_once=at_once)
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
