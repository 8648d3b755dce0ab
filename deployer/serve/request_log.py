"""The outermost ASGI layer: gives a request its id, answers faults of ours, writes its log line."""

import logging
import re
import secrets
import time
from collections.abc import Iterator

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployer.generation.generate import AnswerError
from deployer.serve.anthropic_errors import speaks_anthropic
from deployer.serve.api_errors import ApiError, fault_of
from deployer.serve.api_keys import is_served_work
from deployer.serve.metrics import Metrics
from deployer.serve.request_record import BARE_SEND, KEY, RequestRecord
from deployer.serve.tracing import Tracing

log = logging.getLogger("deployer.serve")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PICTURE_STAGES = ("fetch_ms", "picture_decode_ms", "picture_cut_ms", "encode_ms")
_QUIET_PATHS = {
    "/health",
    "/ready",
    "/metrics",
}  # probes come every few seconds; they are logged at debug level


class RequestLog:
    """ASGI layer around everything else."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing | None) -> None:
        """`tracing`: None where no traces are asked for."""
        self.app = app
        self.metrics = metrics
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = RequestRecord(
            id=_request_id(Headers(scope=scope)), method=scope["method"], path=scope["path"]
        )
        scope[KEY] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers["x-request-id"] = record.id
                if speaks_anthropic(record.path):
                    headers["request-id"] = record.id
            await send(message)

        scope.setdefault(BARE_SEND, send)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            fault = fault_of(error, request_id=record.id)
            record.error = fault.code
            log_failure(record, error)
            if record.status == 0:
                await fault.response(record.path, request_id=record.id)(scope, receive, send_with_id)
        finally:
            duration_s = time.perf_counter() - record.start_s
            self.metrics.request_ended(record, duration_s=duration_s)
            if self.tracing is not None and is_served_work(record.path):
                record.trace = self.tracing.request_ended(record, scope, duration_s=duration_s)
            level = logging.DEBUG if record.path in _QUIET_PATHS else logging.INFO
            if log.isEnabledFor(level):
                log.log(level, "%s", access_line(record, duration_s=duration_s))


def log_failure(record: RequestRecord, error: Exception) -> None:
    """Log a fault of ours under the request's id; one that the engine has told of needs no traceback."""
    told = isinstance(error, ApiError | AnswerError)
    log.error("request %s failed: %s", record.id, error, exc_info=None if told else error)


def access_line(record: RequestRecord, *, duration_s: float) -> str:
    """Return the request as `key=value` pairs; a value that is not plain stands as a JSON string."""
    return " ".join(f"{key}={_plain(value)}" for key, value in _pairs(record, duration_s))


def _pairs(record: RequestRecord, duration_s: float) -> Iterator[tuple[str, object]]:
    yield "request", record.id
    yield "method", record.method
    yield "path", record.path
    yield "status", record.status
    yield "ms", f"{duration_s * 1e3:.1f}"
    if record.trace is not None:
        yield "trace", record.trace
    if record.error is not None:
        yield "error", record.error
    if record.qos is not None:
        yield "class", record.qos
    if record.user is not None:
        yield "user", record.user
    if record.metadata:
        yield "metadata", msgspec.json.encode(record.metadata).decode()
    if record.completion is None:
        return
    yield "completion", record.completion
    yield "stream", record.stream
    yield "prompt_tokens", record.prompt_tokens
    yield "cached_tokens", record.cached_tokens
    yield "images", record.num_images
    if record.image_notes:
        yield "image_notes", "; ".join(record.image_notes)
    yield "image_tokens", record.image_tokens
    yield "output_tokens", record.output_tokens
    for name, milliseconds in record.timings().items():
        if name != "total_ms" and (record.num_images or name not in PICTURE_STAGES):  # the total is `ms`
            yield name, f"{milliseconds:.1f}"
    if record.ttft_s is not None:
        yield "ttft_ms", f"{record.ttft_s * 1e3:.1f}"
    if record.finish is not None:
        yield "finish", record.finish


def _plain(value: object) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w./:-]+", text, re.ASCII) else msgspec.json.encode(text).decode()


def _request_id(headers: Headers) -> str:
    theirs = headers.get("x-request-id", "")
    return theirs if _SANE_ID.fullmatch(theirs) else secrets.token_hex(12)
