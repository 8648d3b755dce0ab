"""The web page at `/`: plain files of this package, for a browser that asks for HTML; others get JSON.

It asks the HTTP API as any client does, with a key where one is needed, and loads nothing from elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response

from deployer.config.schema import ServerConfig
from deployer.serve.api_errors import ApiFault
from deployer.serve.listen import is_public
from deployer.serve.request_record import record_of

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def shows_page(server: ServerConfig) -> bool:
    """Tell whether `server.page` lets the page be served."""
    return server.page == "always" or (server.page == "local" and not is_public(server.host))


def page_routes(server: ServerConfig) -> APIRouter:
    """Return the routes of the page's files; none where there is no page."""
    router = APIRouter()
    if not shows_page(server):
        return router
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in _TYPES}

    @router.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            record_of(request).error = "path_not_found"
            message = f"GET /page/{name}: no file of the page"
            return ApiFault(status=404, message=message, code="path_not_found").response(
                request.url.path, request_id=None
            )
        return _file(name, files[name])

    return router


def page_for(request: Request, server: ServerConfig) -> Response | None:
    """Return the page where it is served and a browser asks; None: say something else."""
    accepted = request.headers.get("accept", "")
    if not shows_page(server) or "text/html" not in accepted:
        return None
    return _file(INDEX, (FOLDER / INDEX).read_bytes())


def _file(name: str, content: bytes) -> Response:
    headers: Mapping[str, str] = {**_HEADERS, "content-type": _TYPES[Path(name).suffix]}
    return Response(content, headers={**headers, "vary": "accept"})
