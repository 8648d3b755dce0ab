"""Events of a streamed answer: JSON put together from prepared bytes, since this runs for every token.

data: {"id": ..., "choices": [{"index": 0, "delta": {"content": "..."}, ...}]}
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployer.generation.generate import Finish
from deployer.serve.api_errors import ApiFault, fault_of
from deployer.serve.request_log import log_failure
from deployer.serve.request_record import BARE_SEND, RequestRecord

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class ChunkWriter:
    """Writes the chunks of one completion."""

    def __init__(
        self,
        *,
        completion: str,
        object_name: str,
        created: int,
        model: str,
        text_field: Callable[[bytes], bytes],
        with_usage: bool,
    ) -> None:
        """`text_field` puts a JSON string into the field that holds text: `"text":...` or `"delta":{...}`."""
        head = _encode({"id": completion, "object": object_name, "created": created, "model": model})
        self._head = b"data: " + head[:-1] + b',"choices":['
        # With `include_usage` every chunk has the field, null in all but the last one.
        self._tail = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"
        self._text_field = text_field
        self.with_usage = with_usage

    def text(
        self, choice: int, text: str, *, logprobs: dict[str, Any] | None, finish: Finish | None
    ) -> bytes:
        """Return the chunk that adds text to a choice, and ends it where `finish` is given."""
        return self.raw(choice, self._text_field(_encode(text)), logprobs=logprobs, finish=finish)

    def raw(
        self,
        choice: int,
        field: bytes,
        *,
        logprobs: dict[str, Any] | None = None,
        finish: Finish | None = None,
        reason: str | None = None,
    ) -> bytes:
        """Return a chunk whose delta or text field is ready JSON, such as the role that opens a message.

        `reason`: said in the place of `finish.reason`.
        """
        shown = b"null" if logprobs is None else _encode(logprobs)
        end = b',"finish_reason":null}'
        if finish is not None:
            end = b',"finish_reason":"%b","stop_reason":%b}' % (
                (reason or finish.reason).encode(),
                _encode(finish.stop_reason),
            )
        return b'%b{"index":%d,%b,"logprobs":%b%b%b' % (self._head, choice, field, shown, end, self._tail)

    def usage(self, usage: dict[str, Any]) -> bytes:
        """Return the chunk after all choices that says what the request cost."""
        return self._head + b'],"usage":' + _encode(usage) + b"}\n\n"


async def open_stream(
    events: AsyncGenerator[bytes, None],
    record: RequestRecord,
    *,
    error_event: Callable[[ApiFault], bytes] | None = None,
) -> "EventStream":
    """Wait for the first event: a request that cannot run is answered with a status, not with a stream.

    `error_event`: what ends a stream that cannot go on; None: the fault as it is.
    """
    return EventStream(await anext(events), events, record, error_event or _fault_event)


class EventStream(StreamingResponse):
    """Sends events as they come; that the client leaves is `CancelWhenGone`'s business."""

    def __init__(
        self,
        first: bytes,
        events: AsyncGenerator[bytes, None],
        record: RequestRecord,
        error_event: Callable[[ApiFault], bytes],
    ) -> None:
        # A proxy in front must pass on every event at once (nginx reads X-Accel-Buffering).
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._first, self._events, self._record = first, events, record
        self._event_of = error_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # In a task of its own: one that wakes for every token should not climb through all layers to do so.
        await asyncio.create_task(self._stream(send, scope[BARE_SEND]))

    async def _stream(self, send: Send, bare_send: Send) -> None:
        """Send the answer; what is between its begin and its end goes past the layers, which ignore it."""
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            event = self._first
            await _send_event(event, send, bare_send)
            try:
                async for event in self._events:
                    await _send_event(event, send, bare_send)
            except Exception as error:
                event = self._error_event(error)
                await _send_event(event, send, bare_send)
        if not event.endswith(DONE):
            await send(_body(b"", more=False))

    def _error_event(self, error: Exception) -> bytes:
        """Return the event that ends a stream which cannot go on; no [DONE] follows it."""
        fault = fault_of(error, request_id=self._record.id)
        self._record.error = fault.code
        if fault.status == 500:
            log_failure(self._record, error)
        return self._event_of(fault)


def _fault_event(fault: ApiFault) -> bytes:
    return b"data: " + fault.json() + b"\n\n"


async def _send_event(event: bytes, send: Send, bare_send: Send) -> None:
    """Send an event; [DONE] closes the answer, which saves a write to the socket."""
    if event.endswith(DONE):
        await send(_body(event, more=False))
    else:
        await bare_send(_body(event, more=True))


def _body(event: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": event, "more_body": more}
