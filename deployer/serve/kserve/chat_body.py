"""A ModelInferRequest as the body of POST /v1/chat/completions, which then checks every field itself.

Inputs: `text_input` (one turn of the user) or `messages` (OpenAI's, as JSON), `image` (encoded pictures or
URLs; they stand in front of the last user turn), `sampling_parameters` (a JSON object of body fields). Any
other input and any parameter is a body field of its name: `max_tokens`, `temperature`, `seed`, `stop`, ...
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

from deployer.serve.kserve.protocol import CHOICE
from deployer.serve.kserve.tensors import TensorError, Value, read_tensors

TEXT, MESSAGES, IMAGE, SAMPLING = "text_input", "messages", "image", "sampling_parameters"
VERSIONS = ("", "1")
_URLS = (b"http://", b"https://", b"data:", b"file:")
# A Triton client asks for a closing response with it; one closes every answer here.
_ALWAYS_SO = "triton_enable_empty_final_response"


def chat_body(request: Any, *, stream: bool) -> dict[str, Any]:
    """Return the JSON body; `stream`: what holds where the request doesn't say. Raises TensorError."""
    if request.model_version not in VERSIONS:
        raise TensorError(f"model_version `{request.model_version}`: there is version `1` only")
    tensors = read_tensors(request)
    messages = _messages(tensors)
    body: dict[str, Any] = {}
    if SAMPLING in tensors:
        _add(body, _json(SAMPLING, tensors.pop(SAMPLING), dict).items())
    _add(body, ((name, _field(values)) for name, values in tensors.items()))
    _add(body, ((name, _parameter(name, one)) for name, one in request.parameters.items()))
    body.pop(_ALWAYS_SO, None)
    _add(body, (("model", request.model_name), ("messages", messages)))
    body.setdefault("stream", stream)
    if body["stream"] is True:
        body.setdefault("stream_options", {"include_usage": True})
    return body


def _add(body: dict[str, Any], fields: Any) -> None:
    for name, value in fields:
        if name in body:
            raise TensorError(f"`{name}` is given twice; give it as an input or as a parameter")
        body[name] = value


def _messages(tensors: dict[str, list[Value]]) -> list[Any]:
    """Take the conversation out of the inputs, its pictures at their place."""
    if (TEXT in tensors) == (MESSAGES in tensors):
        raise TensorError(f"inputs: must hold either `{TEXT}` or `{MESSAGES}`")
    if TEXT in tensors:
        messages: list[Any] = [{"role": "user", "content": _text(TEXT, _one(TEXT, tensors.pop(TEXT)))}]
    else:
        messages = _json(MESSAGES, tensors.pop(MESSAGES), list)
    pictures = [_picture(value) for value in tensors.pop(IMAGE, [])]
    if not pictures:
        return messages
    turns = [turn for turn in messages if isinstance(turn, dict) and turn.get("role") == "user"]
    if not turns:
        raise TensorError(f"input `{IMAGE}`: `{MESSAGES}` has no user turn that it could stand in")
    content = turns[-1].get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    turns[-1]["content"] = [*pictures, *parts]
    return messages


def _picture(value: Value) -> dict[str, Any]:
    if not isinstance(value, bytes):
        raise TensorError(f"input `{IMAGE}`: must be BYTES: encoded pictures or their URLs")
    if value.startswith(_URLS):
        url = _text(IMAGE, value)
    else:
        url = "data:;base64," + base64.b64encode(value).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _json(name: str, values: Sequence[Value], kind: type[Any]) -> Any:
    text = _text(name, _one(name, values))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TensorError(f"input `{name}` is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise TensorError(f"input `{name}`: must be a JSON {'object' if kind is dict else 'list'}")
    return found


def _one(name: str, values: Sequence[Value]) -> Value:
    if len(values) != 1:
        raise TensorError(f"input `{name}`: must hold one element, it holds {len(values)}")
    return values[0]


def _text(name: str, value: Value) -> str:
    if not isinstance(value, bytes):
        raise TensorError(f"input `{name}`: must be BYTES")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise TensorError(f"input `{name}` is not UTF-8: {error.reason} at byte {error.start}") from error


def _field(values: Sequence[Value]) -> Any:
    """Return a body field: the value of a tensor of one, a list of more."""
    plain = [_text("", value) if isinstance(value, bytes) else value for value in values]
    return plain[0] if len(plain) == 1 else plain


def _parameter(name: str, parameter: Any) -> Any:
    kind = parameter.WhichOneof(CHOICE)
    if kind is None:
        raise TensorError(f"parameter `{name}` has no value")
    return getattr(parameter, kind)
