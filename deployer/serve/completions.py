"""POST /v1/completions: plain text or token ids, no template, no pictures."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.generation.generation_config import MAX_CHOICES
from deployer.generation.sampling import SamplingRules, with_echo
from deployer.prompt.tokenizer import decode
from deployer.serve.answers import chunks, whole_answer
from deployer.serve.api_errors import invalid
from deployer.serve.best_of import likeliest, num_candidates
from deployer.serve.echoes import Echoes
from deployer.serve.logprobs import CompletionLogprobs
from deployer.serve.openai_types import CompletionBody
from deployer.serve.read_body import read_body
from deployer.serve.request_record import RequestRecord, record_of
from deployer.serve.sampling import body_rules
from deployer.serve.service import Service
from deployer.serve.sse import ChunkWriter, open_stream


def completion_routes(service: Service) -> APIRouter:
    """Return the route, bound to a service."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read_body(request, CompletionBody, max_bytes=service.server.max_body_bytes)
        record = record_of(request)
        service.accept(body, record)
        made = num_candidates(body)
        prompts = _prompts(body, made=made)
        rules = await _rules(service, body, made=made)
        completion = f"cmpl-{secrets.token_hex(12)}"
        begun_s = time.perf_counter()
        built = [service.prompts.text(prompt) for prompt in prompts]
        record.prompt_is_built(begun_s=begun_s)
        choices = service.choices(rules, built, request_id=completion, model=body.model, record=record)
        echoes = [_echo(service, body, prompt) for prompt in prompts for _ in range(rules.asked.n)]
        if body.stream:
            return await open_stream(_events(service, body, choices, echoes, record), record)
        logprobs = CompletionLogprobs(service.prompts.tokenizer, num_choices=len(choices))
        return await whole_answer(
            service,
            choices,
            record,
            object_name="text_completion",
            content=partial(_content, body, logprobs, echoes),
            kept=partial(likeliest, made=made, wanted=body.n or 1),
        )

    return router


async def _rules(service: Service, body: CompletionBody, *, made: int) -> SamplingRules:
    """Return how each answer is drawn; several that are ranked need their log-probabilities."""
    ranked = made > (body.n or 1)
    rules = await body_rules(
        service,
        body,
        max_tokens=body.max_tokens or None,
        logprobs=0 if ranked and body.logprobs is None else body.logprobs,
        num_choices=made,
    )
    return with_echo(rules, logprobs=body.logprobs, max_tokens=body.max_tokens) if body.echo else rules


def _prompts(body: CompletionBody, *, made: int) -> list[str | list[int]]:
    """Return the prompts one by one. Raises ApiError."""
    if body.max_tokens == 0 and not body.echo:
        raise invalid(
            "`max_tokens`: 0 is for the prompt alone: set `echo`, or ask for more", param="max_tokens"
        )
    given = body.prompt
    prompts: list[str | list[int]]
    if isinstance(given, str):
        prompts = [given]
    else:
        ids = [token_id for token_id in given if isinstance(token_id, int)]
        prompts = [ids] if ids else [prompt for prompt in given if not isinstance(prompt, int)]
    count = len(prompts) * made
    if count > MAX_CHOICES:
        field = "n" if made == (body.n or 1) else "best_of"
        raise invalid(
            f"`prompt`: {len(prompts)} prompts with `{field}` {made} are {count} answers: "
            f"at most {MAX_CHOICES} in one request",
            param="prompt",
        )
    return prompts


def _echo(service: Service, body: CompletionBody, prompt: str | list[int]) -> str:
    if not body.echo:
        return ""
    return prompt if isinstance(prompt, str) else decode(service.prompts.tokenizer, prompt)


def _content(
    body: CompletionBody,
    logprobs: CompletionLogprobs,
    echoes: Sequence[str],
    choice: Choice,
    pieces: Sequence[Piece],
) -> dict[str, Any]:
    echo = echoes[choice.index]
    found = None
    if body.logprobs is not None:
        found = logprobs.behind(choice.prompt.token_ids, echo, pieces) if body.echo else logprobs.of(pieces)
    return {"text": echo + "".join(piece.text for piece in pieces), "logprobs": found}


def _events(
    service: Service,
    body: CompletionBody,
    choices: Sequence[Choice],
    echoes: Sequence[str],
    record: RequestRecord,
) -> AsyncGenerator[bytes, None]:
    writer = ChunkWriter(
        completion=str(record.completion),
        object_name="text_completion",
        created=int(time.time()),
        model=record.model,
        text_field=lambda text: b'"text":' + text,
        with_usage=body.stream_options is not None and body.stream_options.include_usage,
    )
    logprobs = CompletionLogprobs(service.prompts.tokenizer, num_choices=len(choices))
    echoed = Echoes(
        choices if body.echo else (),
        echoes if body.echo else (),
        writer=writer,
        logprobs=None if body.logprobs is None else logprobs,
    )
    return chunks(
        service,
        choices,
        record,
        writer=writer,
        logprobs=lambda piece: logprobs.of([piece]),
        before=echoed.before,
    )
