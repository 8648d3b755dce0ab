"""`server.qos`: classes that fit together, and a class for everybody."""

import re

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig
from deployer.config.suggest import quoted

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def classes_fit_together(config: DeployConfig) -> Complaints:
    """Yield what is wrong with the classes of service."""
    server, names = config.server, [one.name for one in config.server.qos]
    if not names:
        if server.qos_default is not None:
            yield "server.qos_default", "there are no classes; set server.qos, or server.qos_default=null"
        return
    for name in ("target_ttft_ms", "target_token_ms"):
        if getattr(server, name) is not None:
            rule = "classes own fixed shares of server.max_requests, a target moves that number"
            yield f"server.{name}", f"{rule}; set it to null, or drop server.qos"
    for place, one in enumerate(server.qos):
        key = f"server.qos[{place}]"
        if not (1 <= len(one.name) <= 64 and _NAME.fullmatch(one.name)):
            yield f"{key}.name", "must be of letters, digits, `_` and `-`, at most 64"
        elif one.name in names[:place]:
            yield f"{key}.name", "each name must be there once"
        if not 0 <= one.share <= 1:
            yield f"{key}.share", "must be at least 0 and at most 1"
        if one.max_requests is not None and one.max_requests < 1:
            yield f"{key}.max_requests", "must be at least 1; null: as many as there is room for"
    total = sum(one.share for one in server.qos)
    if total > 1 + 1e-9:
        yield "server.qos", f"the shares add up to {total:g}: they are parts of one whole; lower them to 1"
    if server.qos_default not in names:
        rule = "requests whose key names no class need one; set it to one of"
        yield "server.qos_default", f"{rule} {quoted(sorted(names))}"
