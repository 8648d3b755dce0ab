"""GET /v1/deployment: the resolved config of this server, what it runs on, and one fingerprint of both."""

import msgspec
from fastapi import APIRouter, Response

from deployer.serve.service import Service


def deployment_routes(service: Service) -> APIRouter:
    """Return the route, bound to a service."""
    router = APIRouter()

    @router.get("/v1/deployment")
    async def deployment() -> Response:
        return Response(msgspec.json.encode(service.running_as), media_type="application/json")

    return router
