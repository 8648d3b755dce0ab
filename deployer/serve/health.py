"""GET /health, /metrics and /: what a probe, Prometheus and a curious person ask."""

import msgspec
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deployer.serve.endpoints import ENDPOINTS
from deployer.serve.service import Service


def health_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        """200 while requests are taken; 503 with the state while the engine is away or the server drains."""
        engine = service.engine
        state = "draining" if service.admission.draining else engine.state
        body = {"state": state, "restarts": engine.num_restarts, "fault": engine.fault}
        return _json(body, status=200 if state == "ready" else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/")
    async def index() -> Response:
        return _json({"model": service.model_name, "endpoints": ENDPOINTS})

    return router


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
