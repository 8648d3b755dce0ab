"""POST /v1/chat/completions."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.prompt.tokenizer import Tokenizer
from deployer.serve import openai_types as api
from deployer.serve.answers import chunks, whole_answer
from deployer.serve.api_errors import invalid
from deployer.serve.chat_prompt import chat_prompt
from deployer.serve.logprobs import chat_logprobs
from deployer.serve.read_body import read_body
from deployer.serve.request_record import RequestRecord, record_of
from deployer.serve.sampling import CHAT_NAMES
from deployer.serve.service import Service
from deployer.serve.sse import ChunkWriter, open_stream
from deployer.serve.tool_answers import ToolStream, ended, tool_message
from deployer.serve.tools import ToolUse

_NEWER_NAMES = replace(CHAT_NAMES, max_tokens="max_completion_tokens")
ROLE = b'"delta":{"role":"assistant","content":""}'


def chat_routes(service: Service) -> APIRouter:
    """Return the route, bound to a service."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await read_body(request, api.ChatBody, max_bytes=service.server.max_body_bytes)
        record = record_of(request)
        service.accept(body, record)
        chat = await chat_prompt(
            service,
            body,
            record,
            max_tokens=_max_tokens(body),
            logprobs=_num_logprobs(body),
            names=CHAT_NAMES if body.max_completion_tokens is None else _NEWER_NAMES,
        )
        completion = f"chatcmpl-{secrets.token_hex(12)}"
        choices = service.choices(
            chat.rules, [chat.prompt], request_id=completion, model=body.model, record=record
        )
        if body.stream:
            return await open_stream(_events(service, body, choices, record, chat.tools), record)
        content = partial(_content, service.prompts.tokenizer, chat.tools)
        return await whole_answer(service, choices, record, object_name="chat.completion", content=content)

    return router


def _max_tokens(body: api.ChatBody) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise invalid(
            f"`max_tokens` is {old}, `max_completion_tokens` is {new}: they mean the same, give one of them",
            param="max_completion_tokens",
        )
    return new if old is None else old


def _num_logprobs(body: api.ChatBody) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs: true`", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _content(tokenizer: Tokenizer, tools: ToolUse, choice: Choice, pieces: Sequence[Piece]) -> dict[str, Any]:
    wanted = choice.sampling.logprobs is not None
    logprobs = chat_logprobs(tokenizer, pieces) if wanted else None
    if tools.form is None:
        text = "".join(piece.text for piece in pieces)
        return {"message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    finish = pieces[-1].finish
    assert finish is not None, "the last piece of a choice says how it ended"
    message, num_calls = tool_message(pieces, finish, tools.form, must_call=tools.must_call)
    reason = ended(finish, num_calls=num_calls)
    return {"message": message, "logprobs": logprobs, "finish_reason": reason}


def _events(
    service: Service,
    body: api.ChatBody,
    choices: Sequence[Choice],
    record: RequestRecord,
    tools: ToolUse,
) -> AsyncGenerator[bytes, None]:
    writer = ChunkWriter(
        completion=str(record.completion),
        object_name="chat.completion.chunk",
        created=int(time.time()),
        model=record.model,
        text_field=_delta,
        with_usage=body.stream_options is not None and body.stream_options.include_usage,
    )
    return chunks(
        service,
        choices,
        record,
        writer=writer,
        opening=b"".join(writer.raw(choice.index, ROLE) for choice in choices),
        logprobs=lambda piece: chat_logprobs(service.prompts.tokenizer, [piece]),
        delta=None
        if tools.form is None
        else ToolStream(tools.form, num_choices=len(choices), must_call=tools.must_call).delta,
    )


def _delta(text: bytes) -> bytes:
    return b'"delta":{}' if text == b'""' else b'"delta":{"content":%b}' % text
