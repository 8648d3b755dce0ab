"""The server's port, and the way to the checkpoint: on this machine, downloaded, or on a hub that answers."""

import os
from collections.abc import Callable, Iterator

from deployer.config.schema import ModelConfig, ServerConfig
from deployer.errors import ConfigError, UnavailableError
from deployer.hub import fetch_checkpoint
from deployer.recipes.findings import Finding
from deployer.serve.listen import bind, check_tls
from engines.errors import CheckpointError

HUB = "https://huggingface.co"
TIMEOUT_S = 5.0


def port_findings(server: ServerConfig) -> Iterator[Finding]:
    """Yield whether the server can listen where it is to."""
    try:
        bind(server).close()
        check_tls(server)
    except UnavailableError as error:
        yield Finding(level="error", part="port", text=str(error))
    else:
        yield Finding(level="ok", part="port", text=f"{server.host}:{server.port} is free")


def checkpoint_findings(
    model: ModelConfig, *, answers: Callable[[str], str | None] | None = None
) -> Iterator[Finding]:
    """Yield where the checkpoint is; not here and not to be had is an error."""
    try:
        folder = fetch_checkpoint(model, offline=True)
    except (CheckpointError, ConfigError, UnavailableError) as error:
        if model.hub != "huggingface":
            yield Finding(level="error", part="checkpoint", text=str(error))
            return
    else:
        yield Finding(level="ok", part="checkpoint", text=f"here: {folder}")
        return
    yield Finding(level="ok", part="checkpoint", text=f"{model.repo} is not here yet; the start downloads it")
    yield from _hub((answers or fault_of)(hub_address()))


def hub_address() -> str:
    """Return the hub that is asked."""
    return os.environ.get("HF_ENDPOINT", HUB)


def fault_of(address: str) -> str | None:
    """Return why an address does not answer, None where it does."""
    import httpx

    try:
        httpx.head(address, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return None


def _hub(fault: str | None) -> Iterator[Finding]:
    elsewhere = (
        "download it elsewhere and set model.hub=folder model.path=DIR, or set HF_ENDPOINT to a mirror"
    )
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true"):
        yield Finding(level="error", part="hub", text=f"HF_HUB_OFFLINE is set: unset it, or {elsewhere}")
    elif fault is not None:
        yield Finding(level="error", part="hub", text=f"{hub_address()}: {fault}; {elsewhere}")
    else:
        yield Finding(level="ok", part="hub", text=f"{hub_address()} answers")
    token = "is set" if os.environ.get("HF_TOKEN") else "is not set: gated models need it"
    yield Finding(level="ok", part="hub token", text=f"HF_TOKEN {token}")
