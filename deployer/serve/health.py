"""GET /health, /ready, /metrics and /: what a probe, Prometheus and a curious person ask."""

from collections.abc import Mapping
from typing import Protocol

import msgspec
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deployer.serve.comeback import Outage, retry_after_s
from deployer.serve.endpoints import ENDPOINTS
from deployer.serve.metrics import Metrics
from deployer.serve.service import Service
from deployer.serve.web_page import page_for, page_routes


class Standing(Outage, Protocol):
    """What /health says of an engine."""

    @property
    def phase(self) -> str | None:
        """What a start is busy with."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it was last restarted or is dead."""
        ...

    @property
    def num_restarts(self) -> int:
        """Restarts since the first start."""
        ...


def health_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = metrics_routes(service.metrics)
    router.include_router(page_routes(service.server))

    @router.get("/health")
    async def health() -> Response:
        """200 while requests are taken; 503 with the status while the engine is away or the server drains."""
        return health_of(service.engine, draining=service.admission.draining)

    @router.get("/ready")
    async def ready() -> Response:
        """200 while another request would be let in: for a balancer, which has other servers to ask."""
        refusal = service.admission.refusal()
        if refusal is not None and refusal.status == 429:
            return _json({"status": "full"}, status=503, headers=refusal.headers)
        return health_of(service.engine, draining=service.admission.draining)

    @router.get("/")
    async def index(request: Request) -> Response:
        page = page_for(request, service.server)
        return page or _json({"model": service.model_name, "endpoints": ENDPOINTS})

    return router


def metrics_routes(metrics: Metrics) -> APIRouter:
    """Return the route of /metrics."""
    router = APIRouter()

    @router.get("/metrics")
    async def show() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def health_of(engine: Standing, *, draining: bool) -> Response:
    """Return the answer to a probe."""
    status = "draining" if draining else engine.state
    body = {
        "status": status,
        "seconds": round(engine.state_s, 1),
        "phase": engine.phase,
        "restarts": engine.num_restarts,
        "fault": engine.fault,
    }
    if status in ("ready", "draining"):
        return _json(body, status=200 if status == "ready" else 503)
    return _json(body, status=503, headers={"retry-after": str(retry_after_s(engine))})


def _json(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
