"""The OpenAPI description behind /docs: routes read their bodies themselves; their schemas are added here."""

from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployer.serve.anthropic_body import CountBody, MessagesBody
from deployer.serve.anthropic_errors import speaks_anthropic
from deployer.serve.api_keys import is_served_work
from deployer.serve.generate_body import GenerateBody
from deployer.serve.openai_types import ChatBody, CompletionBody
from deployer.serve.response_types import PromptBody, ResponseBody
from deployer.serve.served_schema import bound_numbers, leave_out_tools
from deployer.serve.token_bodies import DetokenizeBody, EncodeBody, PriceBody, TokenizeBody

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponseBody,
    "/v1/responses/input_tokens": PromptBody,
    "/v1/messages": MessagesBody,
    "/v1/messages/count_tokens": CountBody,
    "/v1/encode": EncodeBody,
    "/v1/images/price": PriceBody,
    "/generate": GenerateBody,
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
_ANTHROPIC_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message", "code"],
            "properties": {
                **{name: {"type": "string"} for name in ("type", "message", "code")},
                "details": {"type": "object"},
            },
        },
        "request_id": {"type": ["string", "null"]},
    },
}
# One server-sent event; its data is JSON, or `[DONE]` behind the last one.
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/generate")
_METHODS = ("get", "post", "delete")
_KEYS = {  # either will do
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


# Where an answer has what another path needs: path, and for each parameter that it fills the place in it.
_LINKS: dict[tuple[str, str], dict[str, str]] = {
    ("post", "/v1/responses"): {"response_id": "$response.body#/id"},
    ("get", "/v1/models"): {"name": "$response.body#/data/0/id"},
}


def describe_bodies(
    app: FastAPI, *, needs_key: bool, num_token_ids: int, session_len: int, knows_tools: bool
) -> None:
    """Make `app.openapi()` show the bodies that the routes take, what they answer, and which want a key.

    The others are those of the tokenizer, the engine and the template that are served.
    """
    routes_only = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        described = routes_only()
        _, found = models_json_schema(
            [(body, "validation") for body in BODIES.values()],
            ref_template="#/components/schemas/{model}",
        )
        schemas = found["$defs"]
        bound_numbers(schemas, num_token_ids=num_token_ids, session_len=session_len)
        if not knows_tools:
            leave_out_tools(schemas)
        described["components"] = {"schemas": schemas}
        for path, body in BODIES.items():
            content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
            described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        for path, operations in described["paths"].items():
            for method in _METHODS:
                if method in operations:
                    operations[method]["responses"] = _responses(path)
                    if needs_key and is_served_work(path):
                        operations[method]["security"] = [{name: []} for name in _KEYS]
        if needs_key:
            described["components"]["securitySchemes"] = _KEYS
        for (method, path), filled in _LINKS.items():
            described["paths"][path][method]["responses"]["200"]["links"] = _links(described["paths"], filled)
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _links(paths: dict[str, Any], filled: dict[str, str]) -> dict[str, Any]:
    """Return the links to all operations that have one of the parameters in their path."""
    return {
        operation["operationId"]: {"operationId": operation["operationId"], "parameters": {name: place}}
        for name, place in filled.items()
        for path, operations in paths.items()
        if f"{{{name}}}" in path
        for operation in operations.values()
    }


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
        schema = _ANTHROPIC_ERROR if speaks_anthropic(path) else _ERROR
        refused = {"description": "refused", "content": {"application/json": {"schema": schema}}}
        answers |= {"4XX": refused, "5XX": refused}
    return answers
