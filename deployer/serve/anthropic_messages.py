"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API."""

import secrets
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.serve.anthropic_body import CountBody, MessagesBody
from deployer.serve.anthropic_request import NAMES, chat_body
from deployer.serve.anthropic_run import MessageRun
from deployer.serve.chat_prompt import count_prompt
from deployer.serve.read_body import read_body
from deployer.serve.request_record import record_of
from deployer.serve.service import Service
from deployer.serve.sse import open_stream


def message_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()
    max_bytes = service.server.max_body_bytes

    @router.post("/v1/messages")
    async def create(request: Request) -> Response:
        body = await read_body(request, MessagesBody, max_bytes=max_bytes)
        record = record_of(request)
        asked = chat_body(body)
        service.accept(asked, record)
        run = await MessageRun.of(service, asked, record, message_id=f"msg_{secrets.token_hex(12)}")
        if body.stream:
            return await open_stream(run.events(), record, error_event=run.error_event)
        return _json(await run.whole())

    @router.post("/v1/messages/count_tokens")
    async def count(request: Request) -> Response:
        body = await read_body(request, CountBody, max_bytes=max_bytes)
        return _json({"input_tokens": await count_prompt(service, chat_body(body), names=NAMES)})

    return router


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
