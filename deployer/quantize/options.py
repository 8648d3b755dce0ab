"""Options of `deploy quantize`; values and comments in `conf/quantize/`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, Range
from deployer.config.schema import QuantizationConfig
from deployer.errors import ConfigError
from engines.quant.method import Method

OPTIONS = "quantization=awq, gptq, smooth_quant or fp8"
# Which formats an option has an effect on.
ONLY = {
    "symmetric": ("gptq",),
    "act_order": ("gptq",),
    "vision": ("int8", "fp8"),
}
AUTO_GROUP = 0  # `Method.group_size`: chosen by `fitted`


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeOptions:
    """What is made of a checkpoint, and with what."""

    out: str
    overwrite: bool
    samples: str | None
    num_samples: int
    held_out: int
    max_tokens: int
    seed: int
    group_size: int | None
    search: bool
    symmetric: bool
    act_order: bool
    damping: float
    vision: bool
    questions: int
    output: Literal["table", "json"]


def check_options(options: QuantizeOptions, asked: QuantizationConfig) -> None:
    """Raise ConfigError with every value that cannot be quantized with."""
    faults = []
    if asked.weights in ("auto", "none"):
        faults.append(f"quantization.weights={asked.weights}: names no format to make; use {OPTIONS}")
    allowed = {
        "num_samples": POSITIVE,
        "held_out": POSITIVE,
        "max_tokens": POSITIVE,
        "seed": NOT_NEGATIVE,
        "questions": NOT_NEGATIVE,
        "damping": Range(low=0, high=1, above=True),
    }
    faults += [
        f"quantize.{name}={getattr(options, name)}: {span.rule()}"
        for name, span in allowed.items()
        if not span.holds(getattr(options, name))
    ]
    faults += [
        f"quantize.{name}=true: has an effect on {' and '.join(formats)} only, this is {asked.weights}"
        for name, formats in ONLY.items()
        if getattr(options, name) and asked.weights not in (*formats, "auto", "none")
    ]
    if options.held_out >= options.num_samples:
        faults.append(
            f"quantize.held_out={options.held_out}: must be below quantize.num_samples={options.num_samples}"
        )
    if options.group_size is not None and options.group_size != -1 and options.group_size < 1:
        faults.append(
            f"quantize.group_size={options.group_size}: must be at least 1, or -1 for all of a layer"
        )
    if options.samples is not None and not Path(options.samples).expanduser().exists():
        faults.append(
            f"quantize.samples={options.samples}: there is no such folder or file; the path is relative to "
            f"{Path.cwd()}"
        )
    if faults:
        raise ConfigError(faults)


def method_of(options: QuantizeOptions, asked: QuantizationConfig) -> Method:
    """Return how weights are to be quantized."""
    assert asked.weights != "auto" and asked.weights != "none", "options were checked"
    group_size = AUTO_GROUP if options.group_size is None else options.group_size
    return Method(
        format=asked.weights,
        group_size=None if group_size == -1 or asked.weights in ("int8", "fp8") else group_size,
        search=options.search and asked.weights in ("awq", "int8"),
        symmetric=options.symmetric,
        act_order=options.act_order,
        damping=options.damping,
        vision=options.vision,
    )
