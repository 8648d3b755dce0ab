"""The ASGI layers around every application of ours, from the outside in.

RequestLog (id, log line, metrics, faults of ours), HeadAsGet, CORS, ApiKeys (401), AdmissionGate (408, 429,
503), CancelWhenGone; then the routes.
"""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from deployer.config.schema import ServerConfig
from deployer.serve.admission import Admission
from deployer.serve.admission_gate import AdmissionGate
from deployer.serve.api_keys import ApiKeys
from deployer.serve.arrivals import Arrivals
from deployer.serve.cancel_when_gone import CancelWhenGone
from deployer.serve.key_file import all_keys, needs_key
from deployer.serve.methods import HeadAsGet
from deployer.serve.metrics import Metrics
from deployer.serve.request_log import RequestLog
from deployer.serve.tracing import Tracing

# What a page's script may read of an answer, beside what every browser lets it read.
_EXPOSED = ["x-request-id", "retry-after", "www-authenticate", "x-replica"]


def layers(
    server: ServerConfig, *, admission: Admission, metrics: Metrics, tracing: Tracing | None
) -> list[Middleware]:
    """Return the layers of a server."""
    found = [Middleware(RequestLog, metrics=metrics, tracing=tracing), Middleware(HeadAsGet)]
    if server.cors_origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=server.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            )
        )
    if needs_key(server):
        found.append(Middleware(ApiKeys, keys=all_keys(server)))
    found.append(Middleware(AdmissionGate, admission=admission, arrivals=Arrivals(server)))
    found.append(Middleware(CancelWhenGone))
    return found
