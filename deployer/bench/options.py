"""Options of `deploy bench`; values and comments in `conf/bench/`."""

from dataclasses import dataclass
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, SECONDS
from deployer.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchOptions:
    """What is asked, how often, and of whom."""

    concurrency: list[int]
    requests: int
    warmup: int
    prompt_tokens: int
    output_tokens: int
    images: Literal["without", "with", "both"]
    image_width: int
    image_height: int
    seed: int
    url: str | None
    model_name: str | None
    api_key: str | None
    timeout_s: float
    output: Literal["table", "json"]


def check_options(options: BenchOptions) -> None:
    """Raise ConfigError with every value that cannot be measured with."""
    allowed = {
        "requests": POSITIVE,
        "warmup": NOT_NEGATIVE,
        "prompt_tokens": POSITIVE,
        "output_tokens": POSITIVE,
        "image_width": POSITIVE,
        "image_height": POSITIVE,
        "timeout_s": SECONDS,
    }
    faults = [
        f"bench.{name}={getattr(options, name)}: {span.rule()}"
        for name, span in allowed.items()
        if not span.holds(getattr(options, name))
    ]
    if not options.concurrency or min(options.concurrency) < 1:
        faults.append(f"bench.concurrency={options.concurrency}: must list numbers of at least 1, as [1, 8]")
    if options.url is not None and not options.url.startswith(("http://", "https://")):
        faults.append(f"bench.url={options.url}: must read http://host:port or https://host:port")
    if faults:
        raise ConfigError(faults)
