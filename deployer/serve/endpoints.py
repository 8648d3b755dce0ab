"""The paths that are served: what `GET /` lists and metrics count one by one, and all others."""

import re

ENDPOINTS = (
    "/v1/models",
    "/v1/deployment",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/encode",
    "/v1/images/price",
    "/generate",
    "/tokenize",
    "/detokenize",
    "/health",
    "/ready",
    "/metrics",
)

# Paths with a name in them, and those of the description.
_OTHERS = re.compile(
    r"/|/v1/models/.+|/v1/responses/[^/]+(/input_items|/cancel)?"
    r"|/docs(/.*)?|/openapi\.json|/static-offline-docs/.*"
)
_ADMIN = re.compile("/admin/(drain|resume|abort|flush)")
NO_SUCH_PATH = "no such path; GET / lists those that are served"


def is_served(path: str, *, admin: bool) -> bool:
    """Tell whether a server whose engine is ready has a route of this path; `admin`: operators have keys."""
    named = _OTHERS.fullmatch(path) or (admin and _ADMIN.fullmatch(path))
    return path in ENDPOINTS or bool(named)
