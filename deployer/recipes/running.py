"""What a running server says it is: made by the server at its start, read by `drift` and `diff`.

`GET /v1/deployment` answers it; it is protected like all of /v1/, and holds no secret.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from deployer.errors import UnavailableError
from deployer.recipes.checkpoint import locked_model
from deployer.recipes.flat import public
from deployer.recipes.lock_file import LockedModel
from deployer.recipes.software import kernels_hash, packages

if TYPE_CHECKING:
    from deployer.generation.deployment import Deployment

PATH = "/v1/deployment"
SCHEMA = 1
TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A server's own account of itself."""

    schema: int
    fingerprint: str  # one hash over all but `engine`: equal servers have equal ones
    config: dict[str, Any]  # nested, without secrets
    model: LockedModel  # weights by their size
    packages: dict[str, str]
    kernels_sha256: str
    engine: dict[str, Any]  # what it got: device, dtype, pages, bytes by part


def describe(deployment: "Deployment") -> Running:
    """Return what a started deployment is."""
    assert deployment.engine.ready is not None, "a started engine has said what it got"
    known = {
        "config": public(deployment.config),
        "model": asdict(locked_model(deployment.config, deployment.model.folder, with_weights=False)),
        "packages": packages(),
        "kernels_sha256": kernels_hash(),
    }
    text = json.dumps(known, sort_keys=True)
    return msgspec.convert(
        {
            "schema": SCHEMA,
            "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
            "engine": {"kind": deployment.choice.kind, **msgspec.to_builtins(deployment.engine.ready)},
            **known,
        },
        Running,
    )


def fetch_running(url: str, *, api_key: str | None = None) -> Running:
    """Ask a server what it is. Raises UnavailableError where it does not say."""
    import httpx  # here: most who compare ask no server

    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    address = url.rstrip("/") + PATH
    try:
        reply = httpx.get(address, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(
            f"{address}: {error or type(error).__name__}; start the server, or give its own address"
        ) from error
    if reply.status_code == 401:
        raise UnavailableError(f"{address}: the server wants an API key; add api_key=KEY")
    if reply.status_code == 503:
        raise UnavailableError(f"{address}: its engine is not up; ask again once {url}/ready answers 200")
    if reply.status_code != 200:
        raise UnavailableError(
            f"{address}: answered {reply.status_code}; a server of this project tells what it runs"
        )
    try:
        return msgspec.json.decode(reply.content, type=Running)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"{address}: is not what a server of this version answers: {error}") from error
