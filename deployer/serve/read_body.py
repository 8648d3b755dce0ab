"""From the bytes of a request to a typed body, with every fault named in one answer."""

import difflib
import json
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from deployer.config.suggest import quoted
from deployer.serve.api_errors import ApiError, ApiFault, invalid
from deployer.serve.field_types import NO_SUCH
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
    if any(_is_strange(fault, kind) for fault in faults):
        messages.append(f"this path takes {quoted(_served(kind))}")
    return invalid("; ".join(messages), param=_place(faults[0]) or None)


def _message(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    path = _place(fault)
    what = fault["type"]
    if what == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}"
    if what == "none_required":
        return f"`{path}` is {_refusal(fault['loc'], kind)}"
    if what == "extra_forbidden":
        return f"unknown field `{path}`{_known(fault['loc'], kind)}"
    if what.startswith(NO_SUCH):
        return _no_such_word(fault)
    if what == "missing":
        return f"`{path}` is missing"
    if what in ("too_short", "string_too_short"):
        return f"`{path}` must not be empty"
    rule = _rule(fault)
    if not path:
        return f"the body {rule}"
    rule, _, way_out = rule.partition("; ")
    return _refused(path, rule, fault["input"], way_out)


def _rule(fault: Mapping[str, Any]) -> str:
    """Return pydantic's rule in our words."""
    if fault["type"] == "too_long":
        most = fault["ctx"]["max_length"]
        return f"must hold at most {most} item{'' if most == 1 else 's'}"
    rule = str(fault["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    rule = (rule[0].lower() + rule[1:]).replace("should", "must", 1)
    return rule.replace("'", "`") if fault["type"] == "literal_error" else rule


def _refused(path: str, rule: str, value: object, way_out: str) -> str:
    return f"`{path}`: {rule}, got {_shown(value)}" + (f"; {way_out}" if way_out else "")


def _no_such_word(fault: Mapping[str, Any]) -> str:
    """Return what is wrong with an object that no type of ours has the word of."""
    place, value = _place(fault), fault["input"]
    key = fault["type"].removeprefix(NO_SUCH)
    listed, _, way_out = fault["msg"].partition("; ")
    if not isinstance(value, dict):
        return _refused(place, f"must be an object whose `{key}` is one of {listed}", value, way_out)
    if key not in value:
        return f"`{place}` is missing: must be one of {listed}"
    return _refused(place, f"must be one of {listed}", value[key], way_out)


def _place(fault: Mapping[str, Any]) -> str:
    """Return the place of what is wrong: of an object with a word that none of ours has, that word."""
    path = _path(fault["loc"])
    if fault["type"].startswith(NO_SUCH) and isinstance(fault["input"], dict):
        return f"{path}.{fault['type'].removeprefix(NO_SUCH)}"
    return path


def _path(loc: Iterable[int | str]) -> str:
    """Return `messages[0].content[1].type` for pydantic's location; union tags, in brackets, are left out."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("("):
            path += f".{step}" if path else step
    return path


def _refusal(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Return why a field is not served; one at the top of the body has words of its own."""
    field = kind.model_fields.get(str(loc[0])) if len(loc) == 1 else None
    return (field.description if field is not None else None) or "not served in this version: leave it out"


def _known(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Return what is known near a field at the top of the body."""
    near = difflib.get_close_matches(str(loc[0]), _served(kind), n=1) if len(loc) == 1 else []
    return f"; known near it: `{near[0]}`" if near else ": leave it out"


def _is_strange(fault: Mapping[str, Any], kind: type[BaseModel]) -> bool:
    """Tell whether a field at the top of the body is like none that the path takes."""
    unknown = fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
    return unknown and not difflib.get_close_matches(str(fault["loc"][0]), _served(kind), n=1)


def _served(kind: type[BaseModel]) -> list[str]:
    return sorted(name for name, field in kind.model_fields.items() if field.annotation is not NoneType)


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
