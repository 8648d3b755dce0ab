"""The engine alone: prompts are ready before the clock starts, tokens stay ids."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from deployer.bench.samples import Sample
from deployer.bench.workload import Ask
from deployer.generation.deployment import Deployment
from deployer.generation.image_inputs import write_images
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import Message
from engines.engine import Engine
from engines.errors import EngineError
from engines.messages import Delta, Done, Failed, Submit, greedy


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBench:
    """A started engine, and prompts for it."""

    engine: Engine
    prompts: PromptBuilder
    output_tokens: int

    async def prepare(self, ask: Ask) -> Prompt:
        """Return the prompt of a request; not part of what is measured."""
        pictures = () if ask.picture is None else (ask.picture,)
        return await self.prompts.chat([Message.of("user", ask.text, *pictures)])

    async def ask(self, prompt: Prompt) -> Sample:
        """Run one sequence. Raises EngineError where it fails."""
        submit = self._submit(prompt)
        start_s = time.perf_counter()
        first_s = last_s = start_s
        num_tokens = 0
        async with aclosing(self.engine.submit(submit)) as replies:
            async for reply in replies:
                if isinstance(reply, Delta):
                    last_s = time.perf_counter()
                    first_s = first_s if num_tokens else last_s
                    num_tokens += len(reply.token_ids)
                elif isinstance(reply, Failed):
                    raise EngineError(f"a request of the benchmark failed, {reply.code}: {reply.message}")
                elif isinstance(reply, Done):
                    return Sample(
                        start_s=start_s,
                        first_s=first_s,
                        last_s=last_s,
                        prompt_tokens=len(prompt.token_ids),
                        image_tokens=prompt.num_image_tokens,
                        cached_tokens=reply.usage.cached_tokens,
                        output_tokens=num_tokens,
                    )
        raise AssertionError("a reply stream ends with Done or Failed")

    def _submit(self, prompt: Prompt) -> Submit:
        sampling = greedy(self.output_tokens, stop_token_ids=self.prompts.stop_token_ids)
        return Submit(
            request_id=f"bench-{secrets.token_hex(8)}",
            token_ids=prompt.token_ids,
            images=write_images(prompt, self.engine.pixels),
            sampling=sampling,
            priority=0,
        )


@asynccontextmanager
async def engine_bench(deployment: Deployment, *, output_tokens: int) -> AsyncGenerator[EngineBench, None]:
    """Start the engine of a deployment in its process; it ends with the block."""
    async with deployment:
        yield EngineBench(engine=deployment.engine, prompts=deployment.prompts, output_tokens=output_tokens)
