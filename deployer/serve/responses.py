"""POST /v1/responses and what keeps its answers: GET, DELETE, input_items, cancel, input_tokens."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.serve.api_errors import ApiError, invalid
from deployer.serve.chat_prompt import count_prompt
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.message_types import Message
from deployer.serve.read_body import read_body
from deployer.serve.request_record import record_of
from deployer.serve.response_request import NAMES, chat_body, counted_body
from deployer.serve.response_run import ResponseRun
from deployer.serve.response_types import PromptBody, ResponseBody
from deployer.serve.service import Service
from deployer.serve.sse import open_stream


def response_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()
    store, max_bytes = service.responses, service.server.max_body_bytes

    @router.post("/v1/responses")
    async def create(request: Request) -> Response:
        body = await read_body(request, ResponseBody, max_bytes=max_bytes)
        record = record_of(request)
        if body.store and store.max_bytes == 0:
            raise invalid(
                "`store`: responses are not kept here (server.max_stored_bytes=0): leave it out",
                param="store",
            )
        earlier = await _earlier(service, body, owner=record.owner)
        asked = chat_body(body, earlier)
        service.accept(asked, record)
        run = await ResponseRun.of(
            service,
            body,
            asked,
            record,
            response_id=f"resp_{secrets.token_hex(16)}",
            is_stored=body.store is not False and store.max_bytes > 0,
        )
        if body.stream:
            return await open_stream(run.events(), record, error_event=run.error_event)
        return _json(await run.whole())

    @router.post("/v1/responses/input_tokens")
    async def input_tokens(request: Request) -> Response:
        body = await read_body(request, PromptBody, max_bytes=max_bytes)
        earlier = await _earlier(service, body, owner=record_of(request).owner)
        count = await count_prompt(service, counted_body(body, earlier), names=NAMES)
        return _json({"object": "response.input_tokens", "input_tokens": count})

    _add_kept(router, store)
    return router


def _add_kept(router: APIRouter, store: KeptResponses) -> None:
    """Add the routes of responses that are kept."""

    @router.get("/v1/responses/{response_id}")
    async def retrieve(request: Request, response_id: str) -> Response:
        if request.query_params.get("stream") == "true":
            raise invalid("`stream`: a kept response is not streamed again: leave it out", param="stream")
        kept = await store.response(response_id, owner=record_of(request).owner)
        return Response(kept, media_type="application/json")

    @router.get("/v1/responses/{response_id}/input_items")
    async def input_items(request: Request, response_id: str) -> Response:
        items = await store.input_items(response_id, owner=record_of(request).owner)
        if request.query_params.get("order", "desc") == "desc":
            items.reverse()
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
        return _json({"object": "list", "data": items, "has_more": False, **ends})

    @router.delete("/v1/responses/{response_id}")
    async def delete(request: Request, response_id: str) -> Response:
        await store.delete(response_id, owner=record_of(request).owner)
        return _json({"id": response_id, "object": "response", "deleted": True})

    @router.post("/v1/responses/{response_id}/cancel")
    async def cancel(request: Request, response_id: str) -> Response:
        await store.response(response_id, owner=record_of(request).owner)
        raise invalid("only responses in the background can be cancelled: close the connection of a stream")


async def _earlier(service: Service, body: PromptBody, *, owner: str | None) -> Sequence[Message]:
    if body.previous_response_id is None:
        return ()
    try:
        return await service.responses.messages(body.previous_response_id, owner=owner)
    except ApiError as error:
        message = error.fault.message
        raise invalid(message, param="previous_response_id", code="previous_response_not_found") from error


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
