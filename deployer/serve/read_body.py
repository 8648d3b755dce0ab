"""From the bytes of a request to a typed body, with every fault named in one answer."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from deployer.serve.api_errors import ApiError, ApiFault, invalid
from deployer.serve.strict_body import Body

BodyT = TypeVar("BodyT", bound=Body)
MAX_FAULTS = 16  # named in one answer; a thousand bad images would make it unreadable


async def read_body(request: Request, kind: type[BodyT], *, max_bytes: int) -> BodyT:
    """Read and validate a JSON body; a larger one than `max_bytes` is refused before it is in memory.

    Raises ApiError 413 or 400.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect as error:
        raise invalid("the connection ended inside the body") from error
    try:
        return _validated(bytes(data), kind)
    except ValidationError as error:
        raise _sent_otherwise(request.headers, error) or body_error(error, kind) from error


def _validated(data: bytes, kind: type[BodyT]) -> BodyT:
    """Return the body; where an integer belongs, `5.0` is 5, as in JSON schema. Raises ValidationError."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        if not any(_is_whole(fault) for fault in error.errors(include_url=False)):
            raise
    return kind.model_validate_json(json.dumps(json.loads(data, parse_float=_number)))


def _is_whole(fault: Mapping[str, Any]) -> bool:
    value = fault["input"]
    return fault["type"] == "int_type" and isinstance(value, float) and value.is_integer()


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _sent_otherwise(headers: Mapping[str, str], error: ValidationError) -> ApiError | None:
    """Return the 400 for a body that its headers say is no plain JSON; None where they say nothing."""
    if error.errors(include_url=False)[0]["type"] != "json_invalid":
        return None
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return invalid(
            f"the body has `content-encoding: {encoding[:40]}`: must be plain JSON, not compressed"
        )
    sent_as = headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent_as.startswith("multipart/"):
        return invalid(f"the body is `{sent_as[:40]}`: must be JSON, pictures in it as `data:` URLs")
    return None


def body_error(error: ValidationError, kind: type[BaseModel]) -> ApiError:
    """Return the 400 for everything that is wrong with a body."""
    faults = error.errors(include_url=False)
    messages = [_message(fault, kind) for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        messages.append(f"and {len(faults) - MAX_FAULTS} more")
    return invalid("; ".join(messages), param=_path(faults[0]["loc"]) or None)


def _message(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    path = _path(fault["loc"])
    what = fault["type"]
    if what == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}"
    if what == "none_required":
        return f"`{path}` is not served in this version: leave it out"
    if what == "extra_forbidden":
        return f"unknown field `{path}`{_near(fault['loc'], kind)}"
    if what == "missing":
        return f"`{path}` is missing"
    if what in ("too_short", "string_too_short"):
        return f"`{path}` must not be empty"
    rule = str(fault["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:]
    rule = rule.replace("should", "must", 1)
    return f"`{path}`: {rule}, got {_shown(fault['input'])}" if path else f"the body {rule}"


def _path(loc: Iterable[int | str]) -> str:
    """Return `messages[0].content[1].type` for pydantic's location; union tags, in brackets, are left out."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("("):
            path += f".{step}" if path else step
    return path


def _near(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Return a did-you-mean for a field that stands at the top of the body."""
    if len(loc) != 1:
        return ""
    served = [name for name, field in kind.model_fields.items() if get_args(field.annotation)]
    near = difflib.get_close_matches(str(loc[0]), served, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _shown(value: object) -> str:
    """Return a value short enough for a message; containers only by kind, for they may hold pictures."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str) and len(value) > 40:
        value = value[:37] + "..."
    return json.dumps(value)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        ApiFault(
            status=413,
            message=f"the body is larger than the {max_bytes} bytes of `server.max_body_bytes`: "
            "send less text, or smaller or fewer images",
            code="body_too_large",
            headers={"connection": "close"},
        )
    )
