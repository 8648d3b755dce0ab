"""What a server answers from its first second until its engine is ready: its health, its card, 503 else.

A path that will never be served is a 404 from the beginning.
"""

import time
from dataclasses import dataclass, field

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployer.config.schema import DeployConfig
from deployer.serve.admission import Admission
from deployer.serve.api_errors import ApiFault
from deployer.serve.class_places import ClassPlaces
from deployer.serve.comeback import retry_after_s
from deployer.serve.endpoints import NO_SUCH_PATH, is_served
from deployer.serve.fronts.shared_figures import SharedFigures
from deployer.serve.health import health_of, metrics_routes
from deployer.serve.held_places import HeldPlaces
from deployer.serve.latency_limit import LatencyLimit, LatencyPlaces
from deployer.serve.layers import layers
from deployer.serve.metrics import Metrics
from deployer.serve.models import model_card
from deployer.serve.request_record import BARE_SEND, record_of
from deployer.serve.tracing import Tracing, tracing_of
from deployer.serve.web_page import page_for, page_routes
from engines.engine import Engine, EngineState

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class StartProgress:
    """How far the first start of an engine is."""

    state: EngineState = "starting"
    back_in_s = None
    num_restarts = 0
    fault = None

    def __init__(self) -> None:
        self.engine: Engine | None = None  # None: the checkpoint is still being fetched and read
        self._begun = time.monotonic()

    @property
    def state_s(self) -> float:
        """Seconds since the command began to serve."""
        return time.monotonic() - self._begun

    @property
    def phase(self) -> str | None:
        """What the start is busy with."""
        return "checkpoint" if self.engine is None else self.engine.phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Starting:
    """A server whose engine is not there yet; admission and metrics are those it goes on with."""

    config: DeployConfig
    model_name: str
    created: int  # unix time of the start
    admission: Admission
    metrics: Metrics
    tracing: Tracing | None
    progress: StartProgress = field(default_factory=StartProgress)

    @classmethod
    def of(
        cls,
        config: DeployConfig,
        *,
        created: int | None = None,
        held: HeldPlaces | None = None,
        latency: LatencyPlaces | None = None,
        shared: SharedFigures | None = None,
    ) -> "Starting":
        """Return the start of a deployment.

        One of several processes says when the server began, and shares `held`, `latency` and `shared` with
        the others; None: it begins now, and is alone.
        """
        admission = Admission(
            config.server.max_requests,
            ClassPlaces.of(config.server),
            latency=LatencyLimit.of(config.server) if held is None else latency,
            held=held,
        )
        return cls(
            config=config,
            model_name=config.server.model_name or config.model.name,
            created=int(time.time()) if created is None else created,
            admission=admission,
            metrics=Metrics(engine=None, admission=admission, shared=shared),
            tracing=tracing_of(config.server),
        )


class Front:
    """The ASGI application that the socket knows; `app` behind it is another one once the engine is ready."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[BARE_SEND] = send
        await self.app(scope, receive, send)


def create_starting_app(starting: Starting) -> FastAPI:
    """Return the application that answers while the engine starts."""
    config = starting.config
    app = FastAPI(
        middleware=layers(
            config.server,
            admission=starting.admission,
            metrics=starting.metrics,
            tracing=starting.tracing,
        ),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(metrics_routes(starting.metrics))
    app.include_router(page_routes(config.server))
    app.include_router(_routes(starting))
    return app


def _routes(starting: Starting) -> APIRouter:
    router, progress = APIRouter(), starting.progress

    @router.get("/ready")
    @router.get("/health")
    async def health() -> Response:
        return health_of(progress, draining=starting.admission.draining)

    @router.get("/v1/models")
    async def models() -> Response:
        config = starting.config
        card = model_card(
            starting.model_name,
            created=starting.created,
            session_len=None,
            pictures=None,
            server=config.server,
            vision=config.vision,
        )
        answer = msgspec.json.encode({"object": "list", "data": [card]})
        return Response(answer, media_type="application/json")

    @router.api_route("/{path:path}", methods=METHODS)
    async def others(request: Request) -> Response:
        page = page_for(request, starting.config.server) if request.url.path == "/" else None
        if page is not None:
            return page
        record = record_of(request)
        if not is_served(request.url.path, admin=starting.config.server.admin_keys_file is not None):
            record.error = "path_not_found"
            message = f"{request.method} {request.url.path}: {NO_SUCH_PATH}"
            fault = ApiFault(status=404, message=message, code="path_not_found")
            return fault.response(record.path, request_id=record.id)
        record.error = "engine_unavailable"
        return ApiFault(
            status=503,
            message=f"the engine is starting, for {progress.state_s:.0f} s (phase `{progress.phase}`): come "
            "back after the time in the Retry-After header; GET /health says how far it is",
            code="engine_unavailable",
            headers={"retry-after": str(retry_after_s(progress))},
        ).response(record.path, request_id=record.id)

    return router
