"""What HTTP asks of every path: HEAD wherever GET is, and all methods of a path in `Allow`."""

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


class HeadAsGet:
    """ASGI layer: HEAD is answered as GET is, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, send_without_body)


def allowed_methods(app: FastAPI, scope: MutableMapping[str, Any]) -> str:
    """Return the value of `Allow` for the path of a request: the methods of all its routes."""
    described = app.openapi()["paths"].get(scope["path"])  # before a path with a name in it that fits too
    found = [method for method in METHODS if described is not None and method.lower() in described] or [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    return ", ".join([*found, "HEAD"] if "GET" in found else found)
