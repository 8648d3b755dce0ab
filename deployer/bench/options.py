"""Options of `deploy bench`; values and comments in `conf/bench/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deployer.config.ranges import ABOVE_ZERO, NOT_NEGATIVE, POSITIVE, range_faults
from deployer.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchOptions:
    """What is asked, how often, and of whom."""

    name: str  # what its rows are called where several are measured
    prompts: Literal["chat", "tokens"]
    through: Literal["engine", "http", "both"]
    concurrency: list[int]
    requests: int | None  # None: as many as run at once
    warmup: int
    prompt_tokens: int
    output_tokens: int
    length_sigma: float  # 0: all lengths alike
    images: Literal["without", "with", "both"]
    image_width: int
    image_height: int
    seed: int
    url: str | None
    model_name: str | None
    api_key: str | None
    timeout_s: float
    clients: int | None  # processes that ask over HTTP; None: as many as it takes
    also: list[str]  # further options of conf/bench
    output: Literal["table", "json"]

    @property
    def asks_engine(self) -> bool:
        """Whether the engine is measured alone."""
        return self.url is None and self.through != "http"

    @property
    def asks_http(self) -> bool:
        """Whether a server is measured."""
        return self.url is not None or self.through != "engine"


def check_options(options: BenchOptions) -> None:
    """Raise ConfigError with every value that cannot be measured with."""
    allowed = {
        "requests": POSITIVE,
        "warmup": NOT_NEGATIVE,
        "prompt_tokens": POSITIVE,
        "output_tokens": POSITIVE,
        "length_sigma": NOT_NEGATIVE,
        "image_width": POSITIVE,
        "image_height": POSITIVE,
        "timeout_s": ABOVE_ZERO,
        "clients": POSITIVE,
    }
    faults = range_faults("bench", options, allowed)
    faults += _without_effect(options)
    if not options.concurrency or min(options.concurrency) < 1:
        faults.append(f"bench.concurrency={options.concurrency}: must list numbers of at least 1, as [1, 8]")
    if options.url is not None and not options.url.startswith(("http://", "https://")):
        faults.append(f"bench.url={options.url}: must read http://host:port or https://host:port")
    if faults:
        raise ConfigError(faults)


def refuse_longer_than(session_len: int, loads: Sequence[BenchOptions]) -> None:
    """Raise ConfigError where prompt and answer are longer than a session, whose engine would cut answers."""
    faults = [
        f"bench.prompt_tokens={load.prompt_tokens}, bench.output_tokens={load.output_tokens} ({load.name}): "
        f"a session has {session_len} tokens, prompt and answer together; lower them, or raise "
        "engine.session_len"
        for load in loads
        if load.prompt_tokens + load.output_tokens > session_len
    ]
    if faults:
        raise ConfigError(faults)


def _without_effect(options: BenchOptions) -> list[str]:
    """Return a fault for every value that the kind of prompts leaves without effect."""
    rules = {}
    for name in ("model_name", "api_key"):
        if getattr(options, name) is not None and options.url is None:
            rules[name] = "is said to the server at bench.url, and there is none"
    if options.clients is not None and not options.asks_http:
        rules["clients"] = "ask over HTTP; use bench.through=http or both"
    if options.prompts == "tokens":
        if options.images == "both":
            rules["images"] = "must be with or without where bench.prompts=tokens"
        if options.images == "with" and options.asks_http:
            way_out = "use bench.through=engine or bench.prompts=chat"
            rules["images"] = f"token ids have no picture over HTTP; {way_out}"
        if options.length_sigma and options.images == "with":
            rules["length_sigma"] = "must be 0 with pictures"
    else:
        if options.length_sigma:
            rules["length_sigma"] = "texts are all of one length; use bench.prompts=tokens"
        if options.also:
            rules["also"] = "goes with bench.prompts=tokens only: one engine measures all of them"
    shown = {name: "***" if name == "api_key" else getattr(options, name) for name in rules}
    return [f"bench.{name}={shown[name]}: {rule}" for name, rule in rules.items()]
