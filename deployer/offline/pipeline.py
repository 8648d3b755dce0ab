"""`pipeline(...)`: a model in a variable.

from deployer import GenerationConfig, load_image, pipeline

with pipeline("pocket_vl") as pipe:
    print(pipe(("What is this?", load_image("photo.jpg"))).text)
"""

import weakref
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from deployer.config.load import load_for_verb
from deployer.generation.generation_config import GenerationConfig
from deployer.offline.async_pipeline import AsyncPipeline, Configs
from deployer.offline.loop_thread import LoopThread
from deployer.offline.prompt_forms import Prompt, Prompts, TextPrompt
from deployer.offline.response import Response
from deployer.offline.session import Session
from deployer.offline.words import deployment_words
from deployer.typed_path import typed_path
from deployer.verbs import VERBS
from engines.errors import EngineError
from engines.messages import Ready

T = TypeVar("T")


def pipeline(
    model: str | Path, /, *overrides: str, config_dirs: Sequence[str | Path] = (), **groups: Any
) -> "Pipeline":
    """Start a model and return it.

    `model`: a name of `deploy list models`, a checkpoint folder, a recipe file, or the hub's `owner/name` of
    a model that has a name. Options are the words of the command line (`"engine.tp=2"`), or keywords by
    group: a name chooses an option (`engine="turbomind"`), a mapping sets keys (`vision={"max_tiles": 6}`).

    Raises ConfigError with every fault, or what keeps the engine from starting.
    """
    return Pipeline(async_pipeline(model, *overrides, config_dirs=config_dirs, **groups))


def async_pipeline(
    model: str | Path, /, *overrides: str, config_dirs: Sequence[str | Path] = (), **groups: Any
) -> AsyncPipeline:
    """Return a model for an event loop, which `async with` starts; the arguments are those of `pipeline`.

    Raises ConfigError with every fault.
    """
    folders = [typed_path(folder) for folder in config_dirs]
    words = deployment_words(model, overrides, groups, config_dirs=folders)
    [config] = load_for_verb(VERBS["serve"], words, config_dirs=folders)
    return AsyncPipeline(config)


class Pipeline:
    """A running model. Close it, or use it in a `with` block; what is forgotten closes when Python ends."""

    def __init__(self, asynchronous: AsyncPipeline) -> None:
        """Start it. Raises what keeps it from starting."""
        self._async = asynchronous
        self._loop = LoopThread("pipeline")
        self._closed = weakref.finalize(self, _close, asynchronous, self._loop)
        try:
            self._loop.run(asynchronous.start())
        except BaseException:
            self.close()
            raise

    @property
    def ready(self) -> Ready:
        """What the engine got: device, number format, pages, session length."""
        assert self._async.ready is not None, "a pipeline is started when it is made"
        return self._async.ready

    def close(self) -> None:
        """End the engine process and free its memory; safe to call twice."""
        self._closed()

    @overload
    def __call__(
        self, prompts: TextPrompt, gen_config: None = None, *, progress: bool = True
    ) -> Response: ...

    @overload
    def __call__(
        self, prompts: Prompts, gen_config: Configs = None, *, progress: bool = True
    ) -> Response | list[Response]: ...

    def __call__(
        self, prompts: Prompts, gen_config: Configs = None, *, progress: bool = True
    ) -> Response | list[Response]:
        """Return the answer to one prompt, or a list of answers; `AsyncPipeline` says the rest."""
        return self._run(self._async(prompts, gen_config, progress=progress))

    def stream_infer(self, prompts: Prompts, gen_config: Configs = None) -> Generator[Response, None, None]:
        """Yield pieces of answers as they come. Leaving the loop early, or Ctrl-C, ends the answers."""
        stream = self._async.stream_infer(prompts, gen_config)
        try:
            while (response := self._run(_next(stream))) is not None:
                yield response
        finally:
            if self._closed.alive and self._loop.runs_here:
                self._loop.run(stream.aclose())

    def chat(
        self, prompt: Prompt, session: Session | None = None, gen_config: GenerationConfig | None = None
    ) -> Session:
        """Return the conversation with this turn and its answer added; None begins one."""
        return self._run(self._async.chat(prompt, session, gen_config))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._closed.alive:
            work.close()
            raise EngineError("the pipeline is closed: make a new one")
        if not self._loop.runs_here:
            work.close()
            raise EngineError(
                "the pipeline is of the process that this one was forked from: make one here, behind the fork"
            )
        return self._loop.run(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(stream: AsyncGenerator[Response, None]) -> Response | None:
    return await anext(stream, None)


def _close(asynchronous: AsyncPipeline, loop: LoopThread) -> None:
    """End both; knows nothing of the Pipeline, which may be gone."""
    if not loop.runs_here:  # a fork that ends leaves its parent's engine alone
        return
    try:
        loop.run(asynchronous.close())
    finally:
        loop.close()
