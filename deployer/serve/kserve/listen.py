"""`server.grpc_port`: the listening side of the protocol, beside the HTTP port of the same process."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from deployer.config.schema import ServerConfig
from deployer.errors import UnavailableError
from deployer.serve.installed import is_installed
from deployer.serve.listen import bind

LAST_REPLIES_S = 1.0
_FRAMES_BYTES = 1 << 20  # names, shapes and lengths around the data of a request

# method: the class of its requests, and what answers in `Calls`
_METHODS = {
    "ServerLive": ("ServerLiveRequest", "server_live"),
    "ServerReady": ("ServerReadyRequest", "server_ready"),
    "ServerMetadata": ("ServerMetadataRequest", "server_metadata"),
    "ModelReady": ("ModelReadyRequest", "model_ready"),
    "ModelMetadata": ("ModelMetadataRequest", "model_metadata"),
    "ModelConfig": ("ModelConfigRequest", "model_config"),
    "ModelInfer": ("ModelInferRequest", "model_infer"),
    "ModelStreamInfer": ("ModelInferRequest", "model_stream_infer"),
}


def check_grpc(server: ServerConfig) -> None:
    """Raise UnavailableError where the port cannot be opened, before anything slow happens."""
    if server.grpc_port is None:
        return
    missing = [name for name in ("grpc", "google.protobuf") if not is_installed(name)]
    if missing:
        raise UnavailableError(
            f"server.grpc_port={server.grpc_port}: needs {' and '.join(f'`{name}`' for name in missing)}; "
            "pip install 'vlm-deployer[grpc]'"
        )
    bind(server, port=server.grpc_port, key="server.grpc_port").close()


@asynccontextmanager
async def grpc_listening(app: ASGIApp, server: ServerConfig) -> AsyncGenerator[str | None, None]:
    """Answer on `server.grpc_port` meanwhile; yields the address, None where there is no such port."""
    if server.grpc_port is None:
        yield None
        return
    # The engine's process is forked and becomes another program at once: gRPC has nothing to save there.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc

    listener = grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),  # else a second server would share the port in silence
            ("grpc.max_receive_message_length", server.max_body_bytes + _FRAMES_BYTES),
            ("grpc.max_send_message_length", -1),
        )
    )
    listener.add_generic_rpc_handlers((_methods(app),))
    try:
        port = _open(listener, server)
    except (RuntimeError, OSError) as error:
        raise UnavailableError(
            f"server.grpc_port={server.grpc_port}: cannot be opened on {server.host}: {error}"
        ) from error
    await listener.start()
    try:
        host = f"[{server.host}]" if ":" in server.host else server.host
        yield f"{host}:{port}"
    finally:
        await listener.stop(LAST_REPLIES_S)


def _open(listener: Any, server: ServerConfig) -> int:
    import grpc

    address = f"[{server.host}]" if ":" in server.host else server.host
    address = f"{address}:{server.grpc_port}"
    if server.ssl_certfile is None or server.ssl_keyfile is None:
        return int(listener.add_insecure_port(address))
    pair = (Path(server.ssl_keyfile).read_bytes(), Path(server.ssl_certfile).read_bytes())
    return int(listener.add_secure_port(address, grpc.ssl_server_credentials([pair])))


def _methods(app: ASGIApp) -> Any:
    """Return the table of methods that the port serves."""
    import grpc

    from deployer.serve.kserve.calls import Calls
    from deployer.serve.kserve.protocol import SERVICE, protocol

    classes = protocol()
    calls = Calls(app, classes)
    found = {}
    for method, (asked, name) in _METHODS.items():
        kind = (
            grpc.stream_stream_rpc_method_handler
            if "Stream" in method
            else grpc.unary_unary_rpc_method_handler
        )
        found[method] = kind(
            getattr(calls, name),
            request_deserializer=classes[asked].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    return grpc.method_handlers_generic_handler(SERVICE, found)
