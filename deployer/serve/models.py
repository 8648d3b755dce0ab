"""GET /v1/models, GET /v1/models/{name}: what is served, and within which limits."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Response

from deployer.config.schema import ServerConfig, VisionConfig
from deployer.prompt.picture_limits import PictureLimits
from deployer.serve.api_errors import ApiError
from deployer.serve.service import Service


def model_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Response:
        ends = {"first_id": service.names[0], "last_id": service.names[-1], "has_more": False}  # Anthropic's
        return _json({"object": "list", "data": [_card(service, name) for name in service.names], **ends})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name not in service.names:
            raise ApiError(service.no_such_model(name))
        return _json(_card(service, name))

    return router


def _card(service: Service, name: str) -> dict[str, Any]:
    return model_card(
        name,
        created=service.created,
        session_len=service.prompts.session_len,
        pictures=service.prompts.picture_limits,
        server=service.server,
        vision=service.vision,
        parent=None if name == service.model_name else service.model_name,
    )


def model_card(
    name: str,
    *,
    created: int,
    session_len: int | None,
    pictures: PictureLimits | None,
    server: ServerConfig,
    vision: VisionConfig,
    parent: str | None = None,
) -> dict[str, Any]:
    """Return what /v1/models says of the model.

    `session_len` and `pictures` are not known before the engine is ready; a model of text has no `pictures`.
    """
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "deployer",
        "type": "model",  # this and the next two: Anthropic's names
        "display_name": name,
        "created_at": datetime.fromtimestamp(created, UTC).isoformat(),
        "parent": parent,  # of a LoRA adapter: the model that it changes
        "max_model_len": session_len,
        "limits": {
            "max_body_bytes": server.max_body_bytes,
            "max_requests": server.max_requests,
            "max_images": vision.max_images,
            "max_image_bytes": vision.max_image_bytes,
            "max_image_pixels": vision.max_image_pixels,
            "max_videos": vision.max_videos,
            "max_video_frames": vision.max_video_frames,
            "max_video_bytes": vision.max_video_bytes,
            "max_image_tiles": None if pictures is None else pictures.max_tiles,
            "max_image_tokens": None if pictures is None else pictures.max_tokens,
            "image_tile_tokens": None if pictures is None else pictures.tile_tokens,
        },
    }


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
