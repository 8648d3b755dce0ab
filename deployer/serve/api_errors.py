"""How an error leaves the server: OpenAI's JSON shape, the status, and which of our errors becomes what.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response

from deployer.generation.generate import AnswerError
from deployer.generation.generation_config import InvalidFieldError
from deployer.serve.anthropic_errors import error_body, speaks_anthropic
from engines.errors import EngineDeadError, EngineError, RequestError

# HTTP status of the codes that are not a plain 400.
STATUS_OF_CODE = {
    "model_not_found": 404,
    "request_not_found": 404,
    "body_timeout": 408,
    "body_too_large": 413,
    "queue_full": 429,
    "engine_error": 500,
    "engine_unavailable": 503,
    "no_room": 503,
    "shutting_down": 503,
    "aborted": 503,
}
RETRY_LATER = {429, 503}
# What asking again would undo. The openai package repeats every 503 that does not forbid it.
_NOT_AGAIN = {"aborted": {"x-should-retry": "false"}}

_TYPE_OF_STATUS = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiFault:
    """One error as the client sees it."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] | None = None  # for clients of Anthropic's API, which act on them

    def json(self) -> bytes:
        """Return the body, OpenAI's shape."""
        kind = _TYPE_OF_STATUS.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def response(self, path: str, *, request_id: str | None) -> Response:
        """Return the whole HTTP answer, in the shape of the API that a path speaks."""
        body = error_body(self, request_id=request_id) if speaks_anthropic(path) else self.json()
        return Response(body, self.status, dict(self.headers), "application/json")


class ApiError(Exception):
    """A request is answered with `fault` and goes no further."""

    def __init__(self, fault: ApiFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def invalid(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """Return a 400 that names the field `param`."""
    return ApiError(ApiFault(status=STATUS_OF_CODE.get(code, 400), message=message, code=code, param=param))


def fault_of(error: Exception, *, request_id: str) -> ApiFault:
    """Return what the client is told; of a fault of ours no more than the id that its log entry has."""
    if isinstance(error, ApiError):
        return error.fault
    if isinstance(error, InvalidFieldError):
        return ApiFault(status=400, message=str(error), code=error.code, param=error.field)
    if isinstance(error, AnswerError):  # what the engine said for its client
        return fault_of_code(error.code, str(error))
    if isinstance(error, RequestError) and error.code != "engine_error":
        return fault_of_code(error.code, str(error))
    if isinstance(error, EngineDeadError):
        return fault_of_code("engine_unavailable", str(error))
    about = "the engine failed" if isinstance(error, EngineError) else "the server failed"
    return fault_of_code(
        "engine_error", f"{about} on this request; its log has the cause under request id `{request_id}`"
    )


def fault_of_code(code: str, message: str) -> ApiFault:
    """Return the fault for one of the stable codes; those that pass by themselves say when to come back."""
    status = STATUS_OF_CODE.get(code, 400)
    return ApiFault(
        status=status,
        message=message,
        code=code,
        headers=_NOT_AGAIN.get(code) or ({"retry-after": "1"} if status in RETRY_LATER else {}),
    )
