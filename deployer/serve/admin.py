"""POST /admin/drain, /admin/resume, /admin/abort, /admin/flush: for operators, behind keys of their own.

The paths are there only where `server.admin_keys_file` is set; a client's key opens none of them.
"""

import hashlib
import hmac
import logging
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.serve.api_errors import ApiError, ApiFault, invalid
from deployer.serve.key_file import keys_of_file
from deployer.serve.read_body import read_body
from deployer.serve.service import Service
from deployer.serve.strict_body import Body

log = logging.getLogger("deployer.serve")


class AbortBody(Body):
    """Body of POST /admin/abort."""

    id: str  # of a completion or a response, as answer and log have it


def admin_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service; none where there are no keys for them."""
    router = APIRouter()
    if service.server.admin_keys_file is None:
        return router
    keys = keys_of_file(service.server.admin_keys_file, key="server.admin_keys_file")
    digests = [_digest(key) for key in keys]

    @router.post("/admin/drain")
    async def drain(request: Request) -> Response:
        """Take no new requests; those that run end. The process goes on: SIGTERM ends it."""
        _check_key(request, digests)
        service.admission.held.paused = True
        return _standing(service)

    @router.post("/admin/resume")
    async def resume(request: Request) -> Response:
        """Take requests again."""
        _check_key(request, digests)
        service.admission.held.paused = False
        return _standing(service)

    @router.post("/admin/abort")
    async def abort(request: Request) -> Response:
        """End a request that runs; its client is answered 503, or its stream ends with an error event."""
        _check_key(request, digests)
        body = await read_body(request, AbortBody, max_bytes=service.server.max_body_bytes)
        aborted = await service.end_request(body.id)
        if not aborted:
            raise invalid(f"`id`: no request `{body.id}` runs", param="id", code="request_not_found")
        log.warning("request %s is aborted by an operator, sequences=%d", body.id, aborted)
        return _json({"id": body.id, "sequences": aborted})

    @router.post("/admin/flush")
    async def flush(request: Request) -> Response:
        """Forget the prefix cache; answers with the pages that were cached when the engine last told."""
        _check_key(request, digests)
        stats = service.engine.stats
        service.engine.flush()
        return _json({"pages_cached": stats.pages_cached if stats else 0})

    return router


def _check_key(request: Request, digests: list[bytes]) -> None:
    """Raise ApiError 401 without one of the keys; the time taken tells nothing about any of them."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = _digest(key.strip())
    matches = [hmac.compare_digest(given, digest) for digest in digests]
    if scheme.lower() != "bearer" or not any(matches):
        raise ApiError(
            ApiFault(
                status=401,
                message="the request carries no operator's key (server.admin_keys_file): send one as "
                "`Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _standing(service: Service) -> Response:
    admission = service.admission
    return _json({"draining": admission.draining, "in_flight": admission.held.total})


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
