"""The listening side: a socket that listens before anything slow happens, and uvicorn on it."""

import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from deployer.config.schema import ServerConfig
from deployer.errors import UnavailableError


def bind(server: ServerConfig, *, port: int | None = None, key: str = "server.port") -> socket.socket:
    """Return a socket that listens on the configured address. Raises UnavailableError, with the way out.

    `port`: another than `server.port`, which `key` says.
    """
    port = server.port if port is None else port
    try:
        found = socket.getaddrinfo(server.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UnavailableError(
            f"server.host={server.host}: no such address here, {error.strerror}"
        ) from error
    family, kind, protocol, _, address = found[0]
    # NOTE: asyncio turns Nagle's algorithm off only where the protocol is named: without it every second
    # event of a stream waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()  # Linux lets two sockets have a port, and refuses the second one only here
    except OSError as error:
        listener.close()
        raise UnavailableError(_refusal(server, f"{key}={port}", error)) from error
    return listener


def _refusal(server: ServerConfig, asked: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{asked}: in use on {server.host}; end what listens there or choose another "
            "port (0: any free one)"
        )
    if error.errno == errno.EACCES:
        return f"{asked}: only root may listen below 1024; choose another port"
    return f"server.host={server.host}: not an address of this machine ({error.strerror})"


def check_tls(server: ServerConfig) -> None:
    """Raise UnavailableError where the key or the certificate cannot be used."""
    if server.ssl_certfile is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            server.ssl_certfile, server.ssl_keyfile
        )
    except OSError as error:
        if not isinstance(error, ssl.SSLError):
            raise UnavailableError(
                f"server.ssl_certfile={server.ssl_certfile}, server.ssl_keyfile={server.ssl_keyfile}: "
                f"cannot be read ({error.strerror}); give files that this user may read"
            ) from error
        raise UnavailableError(
            f"server.ssl_certfile={server.ssl_certfile}, server.ssl_keyfile={server.ssl_keyfile}: "
            f"not a PEM certificate with its key ({error}); give a certificate chain in PEM and the private "
            "key that it was made with"
        ) from error


def is_public(host: str) -> bool:
    """Return whether others than this machine can reach a server on `host`."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def url_of(listener: socket.socket, server: ServerConfig) -> str:
    """Return the address to type on this machine."""
    host, port = listener.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if server.ssl_certfile else 'http'}://{here}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: `run.py` decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the handlers as they are."""
        yield


def http_server(app: ASGIApp, server: ServerConfig) -> HttpServer:
    """Return uvicorn around the application."""
    config = uvicorn.Config(
        app,
        ssl_keyfile=server.ssl_keyfile,
        ssl_certfile=server.ssl_certfile,
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=server.keep_alive_s,  # type: ignore[arg-type]  # it takes fractions as well
        timeout_graceful_shutdown=1,
    )
    return HttpServer(config)
