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


def describe_bodies(app: FastAPI) -> None:
    """Make `app.openapi()` show the bodies that the routes take."""
    routes_only = app.openapi

    def openapi() -> dict[str, Any]:
        described = routes_only()
        _, found = models_json_schema(
            [(body, "validation") for body in BODIES.values()],
            ref_template="#/components/schemas/{model}",
        )
        described.setdefault("components", {})["schemas"] = found["$defs"]
        for path, body in BODIES.items():
            content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
            described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
