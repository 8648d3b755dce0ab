"""Faults in the shape that Anthropic's API gives them, for its paths."""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from deployer.serve.api_errors import ApiFault

_TYPE_OF_STATUS = {
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


def speaks_anthropic(path: str) -> bool:
    """Tell whether clients of a path expect this shape."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def error_event(fault: "ApiFault", *, request_id: str | None = None) -> bytes:
    """Return the event that ends a stream which cannot go on."""
    return b"event: error\ndata: %b\n\n" % error_body(fault, request_id=request_id)


def error_body(fault: "ApiFault", *, request_id: str | None) -> bytes:
    """Return the body of an answer; `code` is ours."""
    kind = _TYPE_OF_STATUS.get(fault.status, "invalid_request_error")
    error: dict[str, Any] = {"type": kind, "message": fault.message, "code": fault.code}
    if fault.details is not None:
        error["details"] = fault.details
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
