"""Options of `deploy bench`; values and comments in `conf/bench/`."""

from dataclasses import dataclass
from typing import Literal


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
