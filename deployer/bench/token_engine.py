"""A started engine that is asked with token ids, over the same process and socket that a server uses.

No tokenizer, no template: a deployment with `engine.load_format=random` needs no file of its checkpoint.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from deployer.bench.token_asks import AskedPicture, TokenAsk, TokenPrompts
from deployer.bench.token_samples import TokenSample
from deployer.config.devices import EngineChoice, choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.schema import DeployConfig
from deployer.generation.image_inputs import write_images
from deployer.generation.open_model import OpenedModel, check_family, open_model, sized_model
from deployer.generation.weight_format import with_weights
from deployer.prompt.assemble import Prompt
from engines.engine import Engine
from engines.errors import EngineError
from engines.ipc.client import EngineClient
from engines.messages import Delta, Failed, ImageInput, Submit, greedy
from engines.stats import Stats

SETTLE_S = 5.0  # how long the engine's figures may be behind its last answer


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBench:
    """An engine and prompts for it."""

    engine: Engine
    prompts: TokenPrompts
    threads: ThreadPoolExecutor
    timeout_s: float

    async def ask(self, ask: TokenAsk) -> TokenSample:
        """Run one request; cutting its picture counts. Raises EngineError where it fails."""
        start_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        images: tuple[ImageInput, ...] = ()
        if ask.picture is not None:
            images = await loop.run_in_executor(self.threads, self._images, ask.token_ids, ask.picture)
        try:
            async with asyncio.timeout(self.timeout_s):
                arrivals, cached = await self._run(ask, images)
        except TimeoutError as error:
            raise EngineError(
                f"a request of the benchmark took more than bench.timeout_s={self.timeout_s:g} seconds"
            ) from error
        return TokenSample(
            start_s=start_s,
            arrivals=tuple(arrivals),
            prompt_tokens=len(ask.token_ids),
            image_tokens=0 if ask.picture is None else ask.picture.num_tokens,
            cached_tokens=cached,
        )

    async def settled(self) -> Stats:
        """Return the engine's figures once they hold everything that was answered. Raises EngineError."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            stats = self.engine.stats
            if stats is not None and stats.num_running == stats.num_waiting == 0:
                return stats
            await asyncio.sleep(0.005)
        raise EngineError(f"the engine did not come to rest within {SETTLE_S:g} seconds")

    async def _run(self, ask: TokenAsk, images: Sequence[ImageInput]) -> tuple[list[tuple[float, int]], int]:
        submit = Submit(
            request_id=f"bench-{secrets.token_hex(8)}",
            token_ids=ask.token_ids,
            images=tuple(images),
            sampling=greedy(ask.output_tokens),
            priority=0,
        )
        arrivals: list[tuple[float, int]] = []
        async with aclosing(self.engine.submit(submit)) as replies:
            async for reply in replies:
                if isinstance(reply, Delta):
                    arrivals.append((time.perf_counter(), len(reply.token_ids)))
                elif isinstance(reply, Failed):
                    raise EngineError(f"a request of the benchmark failed, {reply.code}: {reply.message}")
                else:
                    return arrivals, reply.usage.cached_tokens
        raise AssertionError("a reply stream ends with Done or Failed")

    def _images(self, token_ids: tuple[int, ...], picture: AskedPicture) -> tuple[ImageInput, ...]:
        prompt = Prompt(token_ids=token_ids, images=(self.prompts.prepare(picture),))
        return write_images(prompt, self.engine.pixels)


def opened(config: DeployConfig) -> tuple[OpenedModel, EngineChoice]:
    """Return the model and the engine of a deployment; blocking, as it may download.

    Raises UnavailableError, CheckpointError or ConfigError where it cannot start.
    """
    check_family(config.model)
    choice = choose_engine(config.engine)
    if config.engine.load_format == "random":
        return with_weights(config, sized_model(config.model, tower=config.vision.name)), choice
    return with_weights(config, open_model(config.model, tower=config.vision.name)), choice


@asynccontextmanager
async def token_bench(
    config: DeployConfig, model: OpenedModel, choice: EngineChoice, *, timeout_s: float
) -> AsyncGenerator[TokenBench, None]:
    """Start the engine in its process; it ends with the block."""
    options = engine_options(config, choice)
    prompts = TokenPrompts(model.spec, config.vision, uncut_pixels=options.vision.uncut_pixels)
    engine = EngineClient(
        model.folder,
        model.spec,
        options,
        start_timeout_s=config.engine.start_timeout_s,
        max_restarts=0,
        log_level=config.server.log_level,
    )
    await engine.start()
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures") as threads:
        try:
            yield TokenBench(engine=engine, prompts=prompts, threads=threads, timeout_s=timeout_s)
        finally:
            await engine.close()
