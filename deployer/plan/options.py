"""What to plan for, as `conf/plan/*.yaml` says it."""

from dataclasses import dataclass
from typing import Literal

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
    faults = []
    for name in ("prompt_tokens", "output_tokens"):
        if getattr(options, name) < 1:
            faults.append(f"plan.{name}={getattr(options, name)}: must be 1 or more")
    if options.images < 0:
        faults.append(f"plan.images={options.images}: must be 0 or more")
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
