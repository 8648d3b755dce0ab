"""The OpenAPI description behind /docs: routes read their bodies themselves; their schemas are added here."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployer.serve.openai_types import ChatBody, CompletionBody
from deployer.serve.response_types import PromptBody, ResponseBody
from deployer.serve.token_bodies import DetokenizeBody, EncodeBody, PriceBody, TokenizeBody

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponseBody,
    "/v1/responses/input_tokens": PromptBody,
    "/v1/encode": EncodeBody,
    "/v1/images/price": PriceBody,
    "/tokenize": TokenizeBody,
    "/detokenize": DetokenizeBody,
}


_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_REFUSED = {"description": "refused", "content": {"application/json": {"schema": _ERROR}}}
# One server-sent event; its data is JSON, or `[DONE]` behind the last one.
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_METHODS = ("get", "post", "delete")


def describe_bodies(app: FastAPI) -> None:
    """Make `app.openapi()` show the bodies that the routes take, and what they answer."""
    routes_only = app.openapi

    def openapi() -> dict[str, Any]:
        described = routes_only()
        _, found = models_json_schema(
            [(body, "validation") for body in BODIES.values()],
            ref_template="#/components/schemas/{model}",
        )
        described["components"] = {"schemas": found["$defs"]}
        for path, body in BODIES.items():
            content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
            described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        for path, operations in described["paths"].items():
            for method in _METHODS:
                if method in operations:
                    operations[method]["responses"] = _responses(path)
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _responses(path: str) -> dict[str, Any]:
    """Return the answers of a path; an engine that is away makes any of them a 503."""
    kinds: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path in _STREAMED:
        kinds["text/event-stream"] = {"schema": _EVENT}
    if path == "/metrics":
        kinds = {"text/plain": {"schema": {"type": "string"}}}
    answers: dict[str, Any] = {"200": {"description": "answered", "content": kinds}}
    if path in ("/health", "/ready"):
        answers["503"] = {"description": "not now", "content": kinds}
    else:
        answers |= {"4XX": _REFUSED, "5XX": _REFUSED}
    return answers
