"""Options of `deploy evaluate`; values and comments in `conf/evaluate/`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, range_faults
from deployer.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """What is asked and what is shown of it."""

    questions: int
    first_picture: int
    concurrency: int
    max_new_tokens: int
    fonts: str | None  # folder; None: the system's
    wrong: int
    output: Literal["table", "json"]


def check_options(options: EvaluateOptions) -> None:
    """Raise ConfigError with every value that cannot be evaluated with."""
    allowed = {
        "questions": POSITIVE,
        "first_picture": NOT_NEGATIVE,
        "concurrency": POSITIVE,
        "max_new_tokens": POSITIVE,
        "wrong": NOT_NEGATIVE,
    }
    faults = range_faults("evaluate", options, allowed)
    if options.fonts is not None and not Path(options.fonts).is_dir():
        faults.append(f"evaluate.fonts={options.fonts}: must be a folder; null takes the system's fonts")
    if faults:
        raise ConfigError(faults)
