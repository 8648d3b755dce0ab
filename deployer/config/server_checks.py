"""Rules of the group `server`: its files, ports and addresses."""

from urllib.parse import SplitResult, urlsplit

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig


def tls_needs_both_files(config: DeployConfig) -> Complaints:
    """Yield the one of the two files of TLS that is missing."""
    key, certificate = config.server.ssl_keyfile, config.server.ssl_certfile
    if certificate is not None and key is None:
        yield "server.ssl_certfile", "a certificate needs its private key; set server.ssl_keyfile=<file>"
    if key is not None and certificate is None:
        yield "server.ssl_keyfile", "a private key needs its certificate; set server.ssl_certfile=<file>"


def ports_differ(config: DeployConfig) -> Complaints:
    """Yield every port that another front has already."""
    server, users = config.server, {config.server.port: "server.port has it for HTTP"}
    for name, port in (("grpc_port", server.grpc_port), ("gradio_port", server.gradio_port)):
        if port and port in users:  # 0 is any free port, of which two differ
            rule = f"{users[port]}, and each needs a port of its own"
            yield f"server.{name}", f"{rule}; use another port, 0 for any free one or null for none"
        elif port:
            users[port] = f"server.{name} has it"


def origins_are_origins(config: DeployConfig) -> Complaints:
    """Yield origins that no browser sends."""
    bad = [origin for origin in config.server.cors_origins if not _is_web_origin(origin)]
    if bad:
        yield "server.cors_origins", 'each must read scheme://host or scheme://host:port, or be "*" for all'


def endpoint_is_a_url(config: DeployConfig) -> Complaints:
    """Yield an endpoint of traces that cannot be posted to."""
    endpoint = config.server.otel_endpoint
    if endpoint is None:
        return
    parts = _url(endpoint)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        yield "server.otel_endpoint", "must be a URL; as http://localhost:4318/v1/traces"


def _is_web_origin(text: str) -> bool:
    parts = _url(text)
    if text == "*" or parts is None:
        return text == "*"
    bare = not parts.path and not parts.query and not parts.fragment
    return bool(parts.scheme) and bool(parts.hostname) and bare


def _url(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None where it has none: brackets that do not close."""
    try:
        return urlsplit(text)
    except ValueError:
        return None
