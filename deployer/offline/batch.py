"""Many prompts through one engine: all checked first, then as many at once as keep it busy.

Checking opens pictures and counts tokens; pixels are decoded when a prompt's turn comes, so that a batch
needs no more memory than its files. A picture that cannot be decoded ends the batch: the pictures behind it
are decoded too, so that one error names all. An answer that fails ends it at once.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from deployer.config.schema import SamplingConfig
from deployer.generation.choices import choices_of
from deployer.generation.generate import generate
from deployer.generation.generation_config import GenerationConfig, InvalidFieldError
from deployer.generation.merge import merge
from deployer.generation.running_sequences import RunningSequences
from deployer.generation.sampling import SamplingRules, sampling_of, sampling_rules
from deployer.offline.prompt_forms import MOST_NAMED, Conversations, raise_faults
from deployer.offline.response import Answer, Response
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import Message
from deployer.prompt.planned import PlannedPrompt
from engines.engine import Engine
from engines.errors import RequestError

_PLANNED_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Generator:
    """What answers prompts."""

    engine: Engine
    prompts: PromptBuilder
    sampling: SamplingConfig
    most_at_once: int  # prompts
    adapters: tuple[str, ...] = ()  # names that a GenerationConfig may ask for


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One prompt, checked."""

    index: int
    planned: PlannedPrompt
    rules: SamplingRules


async def planned_jobs(
    generator: Generator, asked: Conversations, configs: Sequence[GenerationConfig]
) -> list[Job]:
    """Return a job for each conversation. Raises one RequestError that names all prompts at fault."""
    places = asyncio.Semaphore(_PLANNED_AT_ONCE)
    faults = dict(asked.faults)

    async def plan(index: int) -> Job | None:
        async with places:
            try:
                return await _job(generator, index, asked.messages[index], configs[index])
            except RequestError as error:
                faults[index] = error
                return None

    good = [index for index in range(len(asked.messages)) if index not in asked.faults]
    jobs = await asyncio.gather(*(plan(index) for index in good))
    if faults and not asked.is_batch:
        raise faults[0]
    raise_faults(faults)
    return [job for job in jobs if job is not None]


async def _job(
    generator: Generator, index: int, messages: Sequence[Message], config: GenerationConfig
) -> Job:
    prompts = generator.prompts
    if config.adapter is not None and config.adapter not in generator.adapters:
        listed = ", ".join(f"`{name}`" for name in generator.adapters) or "none: set engine.adapters"
        raise InvalidFieldError(
            f"adapter `{config.adapter}` is not loaded; there are {listed}", field="adapter"
        )
    check = partial(sampling_rules, config, defaults=generator.sampling, vocabulary=prompts)
    rules = check() if config.response_format is None else await asyncio.to_thread(check)
    planned = await prompts.plan(messages)
    sampling_of(rules, planned, choice=0, defaults=generator.sampling, vocabulary=prompts)  # its length
    return Job(index=index, planned=planned, rules=rules)


async def responses(
    generator: Generator, jobs: list[Job], *, is_batch: bool, streamed: bool
) -> AsyncGenerator[Response, None]:
    """Yield the pieces of all answers as they come, or each whole answer when it is there; empties `jobs`.

    Raises RequestError for the first answer that fails, or for all prompts whose pictures cannot be decoded.
    """
    waiting = _emptied(jobs)
    faults: dict[int, RequestError] = {}
    workers = [
        _work(generator, waiting, faults, is_batch=is_batch, streamed=streamed)
        for _ in range(min(len(jobs), generator.most_at_once))
    ]
    async with aclosing(merge(workers)) as arrived:
        async for response in arrived:
            yield response
    raise_faults(faults, num_unread=len(jobs))


def _emptied(jobs: list[Job]) -> Iterator[Job]:
    """Yield jobs and let go of them: with a batch of pictures each holds a file."""
    jobs.reverse()
    while jobs:
        yield jobs.pop()


async def _work(
    generator: Generator,
    jobs: Iterator[Job],
    faults: dict[int, RequestError],
    *,
    is_batch: bool,
    streamed: bool,
) -> AsyncGenerator[Response, None]:
    """Run one job after the other; once a picture was at `faults`, only look at those of the others."""
    for job in jobs:
        try:
            prompt = await generator.prompts.prepare(job.planned)
        except RequestError as error:
            if not is_batch:
                raise
            faults[job.index] = error
        if len(faults) >= MOST_NAMED:
            return
        if faults:
            continue
        try:
            async with aclosing(_answers(generator, job, prompt, streamed=streamed)) as answers:
                async for response in answers:
                    if faults:
                        break
                    if response is not None:
                        yield response
        except RequestError as error:
            message = f"prompts[{job.index}]: {error}" if is_batch else str(error)
            raise RequestError(message, code=error.code) from error


async def _answers(
    generator: Generator, job: Job, prompt: Prompt, *, streamed: bool
) -> AsyncGenerator[Response | None, None]:
    """Yield what the job's answers gain; None where there is nothing to show."""
    asked = job.rules.asked
    choices = choices_of(
        job.rules,
        [prompt],
        request_id=f"pipeline-{secrets.token_hex(8)}",
        vocabulary=generator.prompts,
        defaults=generator.sampling,
        adapter=asked.adapter,
    )
    answers = [Answer(prompt, index=job.index, choice=choice.index, asked=asked) for choice in choices]
    pieces = generate(generator.engine, generator.prompts.tokenizer, choices, running=RunningSequences())
    async with aclosing(pieces):
        async for piece in pieces:
            answer = answers[piece.choice]
            response = answer.grow(piece)
            if not streamed:
                yield answer.whole() if piece.finish is not None else None
            elif response.text or response.token_ids or response.prompt_logprobs or response.finish_reason:
                yield response
            else:
                yield None
