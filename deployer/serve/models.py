"""GET /v1/models, GET /v1/models/{name}: what is served, and within which limits."""

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from deployer.serve.api_errors import ApiError
from deployer.serve.service import Service


def model_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Response:
        return _json({"object": "list", "data": [_card(service)]})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name != service.model_name:
            raise ApiError(service.no_such_model(name))
        return _json(_card(service))

    return router


def _card(service: Service) -> dict[str, Any]:
    server, vision = service.server, service.vision
    return {
        "id": service.model_name,
        "object": "model",
        "created": service.created,
        "owned_by": "deployer",
        "max_model_len": service.prompts.session_len,
        "limits": {
            "max_body_bytes": server.max_body_bytes,
            "max_requests": server.max_requests,
            "max_images": vision.max_images,
            "max_image_bytes": vision.max_image_bytes,
            "max_image_pixels": vision.max_image_pixels,
        },
    }


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
