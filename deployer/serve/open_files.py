"""How many files this process may have open: each connection is one, as is each picture on its way."""

import logging
import resource

SPARE_FILES = 256  # libraries, logs, the engine's channel, pictures

log = logging.getLogger("deployer.serve")


def allow_open_files(max_requests: int) -> int:
    """Lift the soft limit to the hard one and return it; say where even that is too low for a full server.

    Shells and service managers start programs with 1,024 as the soft limit, for the sake of those that use
    `select`; at the limit a server takes no connection until another has ended.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < max_requests + SPARE_FILES:
        log.warning(
            "server.max_requests=%d: this process may open %d files, a connection is one: raise the hard "
            "limit (ulimit -Hn, LimitNOFILE of systemd) or lower server.max_requests",
            max_requests,
            hard,
        )
    return hard
