"""ASGI layer: requests below /v1/, /generate, /tokenize and /detokenize need one of the configured keys."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployer.serve.api_errors import ApiFault
from deployer.serve.key_file import ClientKey
from deployer.serve.request_record import record_in


class ApiKeys:
    """Lets a request pass whose `Authorization: Bearer` or `x-api-key` header carries a known key."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[ClientKey]) -> None:
        self.app = app
        self.classes = {_digest(one.key): one.qos for one in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_served_work(scope["path"]):
            await self.app(scope, receive, send)
            return
        digest = self._known(Headers(scope=scope))
        if digest is not None:
            record = record_in(scope)
            record.owner, record.qos = digest.hex(), self.classes[digest]
            await self.app(scope, receive, send)
            return
        record = record_in(scope)
        record.error = "invalid_api_key"
        fault = ApiFault(
            status=401,
            message="the request carries no known API key: send one as `Authorization: Bearer KEY` or "
            "`x-api-key: KEY`",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
        await fault.response(record.path, request_id=record.id)(scope, receive, send)

    def _known(self, headers: Headers) -> bytes | None:
        """Return the digest of a known key.

        It is compared with every one, by digest, so that the time taken tells nothing about any of them.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key", "")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self.classes]
        return given if key and any(matches) else None


def is_served_work(path: str) -> bool:
    """Tell whether a path is for clients, and not for probes and operators."""
    return path.startswith("/v1/") or path in ("/generate", "/tokenize", "/detokenize")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
