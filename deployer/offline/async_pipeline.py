"""Inference on an event loop: the implementation; `pipeline.py` is the same without `await`."""

import asyncio
import logging
import reprlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self, overload

from deployer.config.adapters import adapters_of
from deployer.config.schema import DeployConfig
from deployer.generation.deployment import Deployment
from deployer.generation.generation_config import GenerationConfig
from deployer.offline.batch import Generator, Job, planned_jobs, responses
from deployer.offline.progress import progress_bar
from deployer.offline.prompt_forms import (
    Conversations,
    Prompt,
    Prompts,
    TextPrompt,
    conversation,
    conversations,
)
from deployer.offline.response import Response
from deployer.offline.session import Session
from deployer.prompt.messages import Message
from engines.errors import EngineError, RequestError
from engines.messages import Ready

Configs = GenerationConfig | Sequence[GenerationConfig] | None

log = logging.getLogger(__name__)


class AsyncPipeline:
    """A model that answers prompts; `async with` starts it and gives back all it holds.

    `ready` says what the engine got. Any number of calls may run at once.
    """

    def __init__(
        self, config: DeployConfig, *, open_deployment: Callable[[DeployConfig], Deployment] = Deployment.open
    ) -> None:
        self.config = config
        self._open_deployment = open_deployment
        self.ready: Ready | None = None
        self._deployment: Deployment | None = None

    async def start(self) -> None:
        """Find the checkpoint and start the engine.

        Raises UnavailableError, CheckpointError, ConfigError or EngineError where it cannot.
        """
        deployment = await asyncio.to_thread(self._open_deployment, self.config)
        for line in deployment.model.differences:
            log.warning("model `%s`: %s; the checkpoint counts", self.config.model.name, line)
        if deployment.choice.reason:
            log.info("%s", deployment.choice.reason)
        self._deployment = deployment
        try:
            self.ready = await deployment.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the engine process and free its memory; calls that still run fail. Safe to call twice."""
        deployment, self._deployment = self._deployment, None
        if deployment is not None:
            await deployment.close()

    @overload
    async def __call__(
        self, prompts: TextPrompt, gen_config: None = None, *, progress: bool = True
    ) -> Response: ...

    @overload
    async def __call__(
        self, prompts: Prompts, gen_config: Configs = None, *, progress: bool = True
    ) -> Response | list[Response]: ...

    async def __call__(
        self, prompts: Prompts, gen_config: Configs = None, *, progress: bool = True
    ) -> Response | list[Response]:
        """Return the answer to one prompt, or a list of answers in the order of the prompts.

        A list it is for a batch, and for one prompt with `GenerationConfig(n=2)` or more: prompt by prompt,
        answer by answer. A batch shows its progress on a terminal. Raises RequestError, before anything runs
        where a prompt is at fault, and says which one.
        """
        asked = conversations(prompts)
        jobs = await self._jobs(asked, gen_config)
        num_answers = sum(job.rules.asked.n for job in jobs)
        found = []
        shows = progress and len(jobs) > 1
        with progress_bar(num_answers, shown=shows) as advance:
            stream = responses(self._generator(), jobs, is_batch=asked.is_batch, streamed=False)
            async with aclosing(stream):
                async for response in stream:
                    found.append(response)
                    advance()
        found.sort(key=lambda response: (response.index, response.choice))
        return found if asked.is_batch or len(found) > 1 else found[0]

    async def stream_infer(
        self, prompts: Prompts, gen_config: Configs = None
    ) -> AsyncGenerator[Response, None]:
        """Yield pieces of answers as they come: `index` and `choice` say whose, the last has a finish reason.

        Leaving the loop early ends the answers; use `contextlib.aclosing`. Raises as a call does.
        """
        asked = conversations(prompts)
        jobs = await self._jobs(asked, gen_config)
        stream = responses(self._generator(), jobs, is_batch=asked.is_batch, streamed=True)
        async with aclosing(stream):
            async for response in stream:
                yield response

    async def chat(
        self, prompt: Prompt, session: Session | None = None, gen_config: GenerationConfig | None = None
    ) -> Session:
        """Return the session with this turn and its answer added; None begins one. Raises RequestError."""
        if session is not None and not isinstance(session, Session):
            raise RequestError(
                f"session={reprlib.repr(session)}: must be what `chat` returned, or None for a new one"
            )
        if isinstance(gen_config, GenerationConfig) and gen_config.n != 1:
            raise RequestError(f"n={gen_config.n}: a turn of a conversation has one answer; use n=1")
        before = () if session is None else session.messages
        messages = (*before, *await self._open().prompts.fetch(conversation(prompt)))
        asked = Conversations(messages=[list(messages)], is_batch=False)
        jobs = await self._jobs(asked, gen_config)
        stream = responses(self._generator(), jobs, is_batch=False, streamed=False)
        async with aclosing(stream):
            response = await anext(stream)
        return Session(messages=(*messages, Message.of("assistant", response.text)), response=response)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _jobs(self, asked: Conversations, gen_config: Configs) -> list[Job]:
        configs = _configs(gen_config, len(asked.messages))
        return await planned_jobs(self._generator(), asked, configs)

    def _open(self) -> Deployment:
        if self._deployment is None or self.ready is None:
            raise EngineError("the pipeline is not open: start it, or use it in a `with` block")
        return self._deployment

    def _generator(self) -> Generator:
        deployment = self._open()
        return Generator(
            engine=deployment.engine,
            prompts=deployment.prompts,
            sampling=self.config.sampling,
            # Twice what fits in a step: the next are prepared while the engine is full.
            most_at_once=2 * self.config.engine.max_batch_size,
            adapters=tuple(adapter.name for adapter in adapters_of(self.config.engine.adapters)),
        )


def _configs(given: Configs, count: int) -> list[GenerationConfig]:
    """Return one GenerationConfig a prompt. Raises RequestError for anything else, and another number."""
    if given is None or isinstance(given, GenerationConfig):
        one = GenerationConfig() if given is None else replace(given)
        return [one] * count
    if not _are_configs(given):
        raise RequestError(
            f"gen_config={reprlib.repr(given)}: must be a GenerationConfig, or a list of one for each prompt"
        )
    if len(given) != count:
        raise RequestError(f"{len(given)} generation configs for {count} prompts: give one, or one for each")
    return list(given)


def _are_configs(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, GenerationConfig) for one in given)
