"""What to plan for, as `conf/plan/*.yaml` says it."""

from dataclasses import dataclass
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, range_faults
from deployer.errors import ConfigError
from deployer.plan.number_formats import WeightFormat
from engines.options import KvFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """The priced request, and the rows and columns of the tables."""

    output: Literal["table", "json"]
    prompt_tokens: int
    output_tokens: int
    images: int
    image_size: list[int]  # width, height
    batches: list[int]
    contexts: list[int]
    pictures: list[list[int]]  # width, height of each
    weights: WeightFormat | None  # None: quantization.weights
    kv: KvFormat | None  # None: quantization.kv


def check_options(options: PlanOptions) -> None:
    """Raise ConfigError, naming every key, where a number makes no sense."""
    allowed = {"prompt_tokens": POSITIVE, "output_tokens": POSITIVE, "images": NOT_NEGATIVE}
    faults = range_faults("plan", options, allowed)
    for name in ("batches", "contexts"):
        values = getattr(options, name)
        if not values or min(values) < 1:
            faults.append(f"plan.{name}={values}: must be a list of numbers from 1 on")
    for name, size in [
        ("image_size", options.image_size),
        *(("pictures", size) for size in options.pictures),
    ]:
        if len(size) != 2 or min(size) < 1:
            faults.append(f"plan.{name}={size}: a size is [width, height] in pixels")
    if faults:
        raise ConfigError(faults)
