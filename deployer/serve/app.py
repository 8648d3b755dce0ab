"""The FastAPI application: layers, routes and error shape around one `Service`.

The engine is started before and closed after it by whoever made the service; until then
`starting.py` answers.
"""

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from deployer.serve.admin import admin_routes
from deployer.serve.anthropic_messages import message_routes
from deployer.serve.api_errors import ApiError, ApiFault, fault_of
from deployer.serve.api_schema import describe_bodies
from deployer.serve.chat_completions import chat_routes
from deployer.serve.completions import completion_routes
from deployer.serve.described import deployment_routes
from deployer.serve.endpoints import NO_SUCH_PATH
from deployer.serve.health import health_routes
from deployer.serve.image_price import price_routes
from deployer.serve.key_file import needs_key
from deployer.serve.layers import layers
from deployer.serve.methods import allowed_methods
from deployer.serve.models import model_routes
from deployer.serve.native_generate import generate_routes
from deployer.serve.request_log import log_failure
from deployer.serve.request_record import record_of
from deployer.serve.responses import response_routes
from deployer.serve.service import Service
from deployer.serve.tokens import token_routes
from engines.errors import EngineDeadError, RequestError

ROUTES = (
    chat_routes,
    completion_routes,
    response_routes,
    message_routes,
    generate_routes,
    token_routes,
    price_routes,
    model_routes,
    deployment_routes,
    health_routes,
    admin_routes,
)


def create_app(service: Service) -> FastAPI:
    """Return the application; it serves until its service's engine is closed."""
    around = layers(
        service.server, admission=service.admission, metrics=service.metrics, tracing=service.tracing
    )
    app = FastAPIOffline(
        title="deployer",
        middleware=around,
        redirect_slashes=False,
        redoc_url=None,  # it takes its logo from a CDN
        swagger_ui_parameters={"validatorUrl": None},  # else the page asks validator.swagger.io
    )
    for routes in ROUTES:
        app.include_router(routes(service))
    app.add_exception_handler(HTTPException, _http_error)
    for kind in (ApiError, RequestError, EngineDeadError):
        app.add_exception_handler(kind, _api_error)
    describe_bodies(
        app,
        needs_key=needs_key(service.server),
        num_token_ids=service.prompts.tokenizer.vocab_size,
        session_len=service.prompts.session_len,
        knows_tools=service.prompts.tool_format is not None,
    )
    return app


async def _api_error(request: Request, error: Exception) -> Response:
    record = record_of(request)
    fault = fault_of(error, request_id=record.id)
    record.error = fault.code
    if fault.status == 500:
        log_failure(record, error)
    return fault.response(record.path, request_id=record.id)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses: a path or a method that is not served."""
    assert isinstance(error, HTTPException), "registered for HTTPException only"
    path, code, rule, headers = request.url.path, "invalid_request", error.detail, error.headers or {}
    if error.status_code == 404:
        code, rule = "path_not_found", NO_SUCH_PATH
    elif error.status_code == 405:  # the router names the methods of one route, and a path may have several
        headers = {"allow": allowed_methods(request.app, request.scope)}
        code, rule = "method_not_allowed", f"the path takes {headers['allow']}"
    record = record_of(request)
    record.error = code
    fault = ApiFault(
        status=error.status_code, message=f"{request.method} {path}: {rule}", code=code, headers=headers
    )
    return fault.response(record.path, request_id=record.id)
