"""Options of `deploy quantize`; values and comments in `conf/quantize/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, Range
from deployer.config.schema import QuantizationConfig
from deployer.config.suggest import quoted
from deployer.errors import ConfigError
from deployer.typed_path import typed_path
from engines.memory.kv_bytes import dtype_rule, head_dim_rule
from engines.options import KvFormat
from engines.quant.method import Method
from engines.quant.weight_quant import WeightFormat
from engines.weights.decode_copy import CopyFormat

OPTIONS = "quantization=awq, gptq, smooth_quant or fp8"
# Which formats an option has an effect on.
ONLY = {
    "symmetric": ("gptq",),
    "act_order": ("gptq",),
    "vision": ("int8", "fp8"),
}
# What quantize.compare may name: how weights are made, and how keys and values are kept.
MADE: Mapping[str, tuple[WeightFormat, bool]] = {  # format, and whether it is searched for
    "fp8": ("fp8", True),
    "smooth_quant": ("int8", True),
    "awq": ("awq", True),
    "nearest": ("awq", False),
    "gptq": ("gptq", True),
}
KEPT: Mapping[str, KvFormat] = {"kv_bf12": "bf12", "kv_int8": "int8", "kv_fp8": "fp8", "kv_int4": "int4"}
# Weights as decode reads them from a second copy; fp7: of an fp8 copy where the checkpoint is in bf16.
READ: Mapping[str, CopyFormat] = {"bf12": "bf12", "fp7": "fp7"}
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
    first_picture: int
    compare: list[str] | None  # of MADE, READ and KEPT
    output: Literal["table", "json"]


def check_options(options: QuantizeOptions, asked: QuantizationConfig) -> None:
    """Raise ConfigError with every value that cannot be quantized with."""
    faults = _compare_faults(options, asked)
    if asked.kv != "none" and options.questions:
        faults.append(
            f"quantization.kv={asked.kv}: formats of keys and values are judged as rows of quantize.compare: "
            f"{', '.join(KEPT)}; leave it at none"
        )
    if options.compare is None and asked.weights in ("auto", "none"):
        faults.append(f"quantization.weights={asked.weights}: names no format to make; use {OPTIONS}")
    if asked.weights == "bf12":
        faults.append(
            "quantization.weights=bf12: is made while an engine starts, of the checkpoint as it is; use "
            f"{OPTIONS}, or quantize.compare=[bf12] for what it costs"
        )
    allowed = {
        "num_samples": POSITIVE,
        "held_out": POSITIVE,
        "max_tokens": POSITIVE,
        "seed": NOT_NEGATIVE,
        "questions": NOT_NEGATIVE,
        "first_picture": NOT_NEGATIVE,
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
    if options.samples is not None and not typed_path(options.samples).exists():
        faults.append(
            f"quantize.samples={options.samples}: there is no such folder or file; the path is relative to "
            f"{Path.cwd()}"
        )
    if faults:
        raise ConfigError(faults)


def made_for(name: str, held: WeightFormat | None) -> str | None:
    """Return which of MADE the answers of a name in `compare` are of; None: the checkpoint's own weights.

    `held` is what the checkpoint is quantized to. Raises ConfigError where it has no weights to read so.
    """
    if name != "fp7" or held == "fp8":
        return name if name in MADE else None
    if held is None:
        return "fp8"
    raise ConfigError(
        [f"quantize.compare: fp7: reads e4m3 weights, this checkpoint's are {held}; leave it out"]
    )


def check_kept(forms: Sequence[KvFormat], *, head_dim: int, dtype: str) -> None:
    """Raise ConfigError where keys and values of such heads, computed in this dtype, cannot be kept so."""
    rules = {form: head_dim_rule(head_dim, form) or dtype_rule(dtype, form) for form in forms}
    faults = [f"quantize.compare: kv_{form}: {rule}; leave it out" for form, rule in rules.items() if rule]
    if faults:
        raise ConfigError(faults)


def check_read(names: Sequence[str], *, dtype: str) -> None:
    """Raise ConfigError where `compare` names a copy in 12 bits and the engine computes in float16."""
    if "bf12" in names and dtype == "float16":
        rule = "an engine in float16 reads no such copy, only one in bfloat16 does"
        raise ConfigError([f"quantize.compare: bf12: {rule}; leave it out, or set engine.dtype=bfloat16"])


def _compare_faults(options: QuantizeOptions, asked: QuantizationConfig) -> list[str]:
    if options.compare is None:
        return []
    faults = []
    unknown = sorted(set(options.compare) - MADE.keys() - READ.keys() - KEPT.keys())
    if unknown or not options.compare:
        faults.append(
            f"quantize.compare=[{','.join(options.compare)}]: must be of {', '.join([*MADE, *READ, *KEPT])}"
        )
    doubled = sorted({name for name in options.compare if options.compare.count(name) > 1})
    if doubled:
        faults.append(f"quantize.compare: {quoted(doubled)} more than once: each format has one row")
    if asked.weights != "auto":
        faults.append(
            f"quantization.weights={asked.weights}: quantize.compare names the formats; leave it at auto"
        )
    if options.questions == 0:
        faults.append(
            "quantize.questions=0: quantize.compare judges formats by answers; set quantize.questions=2000, "
            "which tell 0.3 points apart"
        )
    return faults


def method_of(options: QuantizeOptions, form: WeightFormat) -> Method:
    """Return how weights are to be quantized."""
    group_size = AUTO_GROUP if options.group_size is None else options.group_size
    return Method(
        format=form,
        group_size=None if group_size == -1 or form in ("int8", "fp8") else group_size,
        search=options.search and form in ("awq", "int8"),
        symmetric=options.symmetric and form in ONLY["symmetric"],
        act_order=options.act_order and form in ONLY["act_order"],
        damping=options.damping,
        vision=options.vision and form in ONLY["vision"],
    )
