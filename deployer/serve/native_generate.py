"""POST /generate, LMDeploy's native endpoint: a text or token ids in, text and token ids out, no template.

Pictures stand where the text has `<IMAGE_TOKEN>`. Events of a stream have what was added.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.prompt.assemble import Prompt
from deployer.prompt.messages import ImagePart
from deployer.serve.generate_body import GenerateBody, ImageData
from deployer.serve.openai_types import SamplingBody
from deployer.serve.read_body import read_body
from deployer.serve.request_record import RequestRecord, record_of
from deployer.serve.sampling import body_rules
from deployer.serve.service import Service
from deployer.serve.sse import DONE, open_stream
from deployer.serve.usage import Tally

_NO_SAMPLING = {
    "prompt",
    "input_ids",
    "image_data",
    "return_logprob",
    "sampling_params",
    "session_id",
    "spaces_between_special_tokens",
}


def generate_routes(service: Service) -> APIRouter:
    """Return the route, bound to a service."""
    router = APIRouter()

    @router.post("/generate")
    async def create(request: Request) -> Response:
        body = await read_body(request, GenerateBody, max_bytes=service.server.max_body_bytes)
        record = record_of(request)
        asked = SamplingBody.model_validate(body.model_dump(exclude=_NO_SAMPLING))
        service.accept(asked, record)
        logprobs = 0 if body.return_logprob else None
        rules = await body_rules(service, asked, max_tokens=body.max_tokens, logprobs=logprobs)
        begun_s = time.perf_counter()
        prompt = await _prompt(service, body)
        record.prompt_is_built(begun_s=begun_s)
        generation = f"gen-{secrets.token_hex(12)}"
        choices = service.choices(rules, [prompt], request_id=generation, model=body.model, record=record)
        with_logprobs = logprobs is not None
        if body.stream:
            return await open_stream(_events(service, choices, record, with_logprobs=with_logprobs), record)
        pieces = [piece async for piece in _pieces(service, choices, record)]
        whole = _answer(pieces, record, with_logprobs=with_logprobs)
        return Response(msgspec.json.encode(whole), media_type="application/json")

    return router


async def _prompt(service: Service, body: GenerateBody) -> Prompt:
    if body.image_data is not None and body.prompt is not None:
        given = body.image_data if isinstance(body.image_data, list) else [body.image_data]
        return await service.prompts.marked(body.prompt, [_picture(one) for one in given])
    return service.prompts.text(body.prompt if body.prompt is not None else body.input_ids or [])


def _picture(given: ImageData) -> ImagePart:
    if isinstance(given, str):
        return ImagePart(source=given)
    return ImagePart(source=given.url, fineness=given.fineness())


async def _pieces(
    service: Service, choices: Sequence[Choice], record: RequestRecord
) -> AsyncGenerator[Piece, None]:
    tally = Tally(choices, record)
    async with aclosing(service.generate(choices)) as stream:
        async for piece in stream:
            tally.add(piece)
            yield piece


async def _events(
    service: Service, choices: Sequence[Choice], record: RequestRecord, *, with_logprobs: bool
) -> AsyncGenerator[bytes, None]:
    async with aclosing(_pieces(service, choices, record)) as pieces:
        async for piece in pieces:
            end = b"" if piece.finish is None else DONE
            added = _answer([piece], record, with_logprobs=with_logprobs)
            yield b"data: %b\n\n%b" % (msgspec.json.encode(added), end)


def _answer(pieces: Sequence[Piece], record: RequestRecord, *, with_logprobs: bool) -> dict[str, Any]:
    """Return what some pieces add to an answer; counts are of all so far."""
    finish = pieces[-1].finish
    logprobs = [
        (found.chosen, token_id)
        for piece in pieces
        for token_id, found in zip(piece.token_ids, piece.logprobs, strict=False)  # none were asked for
    ]
    return {
        "text": "".join(piece.text for piece in pieces),
        "output_ids": [token_id for piece in pieces for token_id in piece.token_ids],
        "meta_info": {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.output_tokens,
            "cached_tokens": record.cached_tokens,
            "finish_reason": None
            if finish is None
            else {"type": finish.reason, "matched": finish.stop_reason},
            "output_token_logprobs": logprobs if with_logprobs else None,
        },
    }
