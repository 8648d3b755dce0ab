"""The methods of the protocol, each asked of the application behind the HTTP port.

A call that is cancelled, or outlives its deadline, leaves `ask`, and that aborts its sequences.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

from starlette.types import ASGIApp

from deployer.serve.in_process import ask
from deployer.serve.kserve.answers import Fault, Responses, fault_of, told_fault
from deployer.serve.kserve.chat_body import VERSIONS, chat_body
from deployer.serve.kserve.model_card import config_of, metadata_of
from deployer.serve.kserve.protocol import Protocol
from deployer.serve.kserve.streams import replies_to_all
from deployer.serve.kserve.tensors import TensorError

CHAT = "/v1/chat/completions"
# Of the framing of HTTP or gRPC, and not of a request.
_FRAMING = ("connection", "content-length", "content-type", "host", "te", "transfer-encoding")


class FailedCallError(Exception):
    """A call ends with `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Calls:
    """What each method answers."""

    def __init__(self, app: ASGIApp, protocol: Protocol) -> None:
        self._app = app
        self._protocol = protocol

    async def server_live(self, request: Any, context: Any) -> Any:
        """Say that this process answers."""
        return self._protocol["ServerLiveResponse"](live=True)

    async def server_ready(self, request: Any, context: Any) -> Any:
        """Say whether another request would be let in, as GET /ready does."""
        return self._protocol["ServerReadyResponse"](ready=await self._is_ready())

    async def server_metadata(self, request: Any, context: Any) -> Any:
        """Name the server and its version."""
        return self._protocol["ServerMetadataResponse"](
            name="deployer", version=version("vlm-deployer"), extensions=["parameters"]
        )

    async def model_ready(self, request: Any, context: Any) -> Any:
        """Say whether a model of that name is served and takes requests."""
        try:
            await self._card(request, context)
        except FailedCallError as error:
            if error.fault.status.name != "NOT_FOUND":
                await _refuse(context, error.fault)
            return self._protocol["ModelReadyResponse"](ready=False)
        return self._protocol["ModelReadyResponse"](ready=await self._is_ready())

    async def model_metadata(self, request: Any, context: Any) -> Any:
        """Describe the tensors."""
        try:
            return metadata_of(await self._card(request, context), self._protocol)
        except FailedCallError as error:
            return await _refuse(context, error.fault)

    async def model_config(self, request: Any, context: Any) -> Any:
        """Describe the model in Triton's words."""
        try:
            return config_of(await self._card(request, context), self._protocol)
        except FailedCallError as error:
            return await _refuse(context, error.fault)

    async def model_infer(self, request: Any, context: Any) -> Any:
        """Answer in one piece."""
        try:
            async with aclosing(self._replies(request, context, stream=False)) as replies:
                return await anext(replies)
        except FailedCallError as error:
            return await _refuse(context, error.fault)

    async def model_stream_infer(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncGenerator[Any, None]:
        """Answer each request of a stream in pieces, all at once; one that fails ends no other."""
        async with aclosing(replies_to_all(requests, lambda one: self._told(one, context))) as replies:
            async for reply in replies:
                yield reply

    async def _told(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(self._replies(request, context, stream=True)) as replies:
                async for reply in replies:
                    yield self._protocol["ModelStreamInferResponse"](infer_response=reply)
        except FailedCallError as error:
            yield Responses.failed(self._protocol, request, error.fault)

    async def _replies(self, request: Any, context: Any, *, stream: bool) -> AsyncGenerator[Any, None]:
        """Yield the responses to one request. Raises FailedCallError."""
        try:
            responses = Responses.to(request, self._protocol)
            body = chat_body(request, stream=stream)
            if body["stream"] is True and not stream:
                raise TensorError("`stream`: ModelInfer answers in one piece; call ModelStreamInfer")
        except TensorError as error:
            raise FailedCallError(
                told_fault(400, {"message": str(error), "code": "invalid_request"})
            ) from error
        data = json.dumps(body).encode()
        headers = _headers_of_json(context, data)
        async with ask(self._app, "POST", CHAT, headers=headers, body=data) as answer:
            if answer.status != 200:
                raise FailedCallError(fault_of(answer, await answer.whole()))
            if body["stream"] is not True:
                yield responses.whole(await answer.whole(), answer.headers["x-request-id"])
                return
            async for event in answer.events():
                if event.startswith(b'{"error"'):
                    raise FailedCallError(told_fault(500, json.loads(event)["error"], answer))
                if event != b"[DONE]":
                    yield responses.piece(event, answer.headers["x-request-id"])

    async def _is_ready(self) -> bool:
        async with ask(self._app, "GET", "/ready", headers=()) as answer:
            return answer.status == 200

    async def _card(self, request: Any, context: Any) -> dict[str, Any]:
        """Return what /v1/models says of a model. Raises FailedCallError, NOT_FOUND where there is none."""
        if request.version not in VERSIONS:
            raise _not_found(f"version `{request.version}` of a model: there is version `1` only")
        async with ask(self._app, "GET", "/v1/models", headers=headers_of(context)) as answer:
            told = await answer.whole()
            if answer.status != 200:
                raise FailedCallError(fault_of(answer, told))
        cards: list[dict[str, Any]] = json.loads(told)["data"]
        for card in cards:
            if card["id"] == request.name:
                return card
        served = ", ".join(f"`{card['id']}`" for card in cards)
        raise _not_found(f"model `{request.name}` is not served here: {served} is")


def headers_of(context: Any) -> list[tuple[bytes, bytes]]:
    """Return the metadata that a request has as headers: its key, its id, whatever a layer reads."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in context.invocation_metadata() or ()
        if isinstance(value, str) and not name.startswith((":", "grpc-")) and name not in _FRAMING
    ]


def _headers_of_json(context: Any, body: bytes) -> list[tuple[bytes, bytes]]:
    size = str(len(body)).encode()
    return [*headers_of(context), (b"content-type", b"application/json"), (b"content-length", size)]


def _not_found(message: str) -> FailedCallError:
    return FailedCallError(told_fault(404, {"message": message, "code": "model_not_found"}))


async def _refuse(context: Any, fault: Fault) -> Any:
    """End the call; never returns."""
    await context.abort(fault.status, fault.message, fault.metadata)
