"""Options of `deploy chat`; values and comments in `conf/chat/`."""

from dataclasses import dataclass

from deployer.config.ranges import ABOVE_ZERO, range_faults
from deployer.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions:
    """Whom to talk to."""

    url: str | None
    model_name: str | None
    api_key: str | None
    timeout_s: float


def check_options(options: ChatOptions) -> None:
    """Raise ConfigError with every value that cannot work."""
    faults = range_faults("chat", options, {"timeout_s": ABOVE_ZERO})
    if options.url is not None and not options.url.startswith(("http://", "https://")):
        faults.append(f"chat.url={options.url}: must read http://host:port or https://host:port")
    for name in ("model_name", "api_key"):
        if options.url is None and getattr(options, name) is not None:
            faults.append(f"chat.{name}: is for a server that runs; set chat.url too")
    if faults:
        raise ConfigError(faults)
