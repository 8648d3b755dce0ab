"""What would change a plan most, and what would make it fit: the plan is made again with single keys changed.

A change is a set of keys and values of the config tree, so what it says can be typed on the command line.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from deployer.config.checks import RULES
from deployer.config.schema import DeployConfig, QuantizationConfig
from deployer.plan.case import Case, case_of
from deployer.plan.figures import Figures, figures_of
from deployer.plan.hardware import Hardware, supports
from deployer.plan.options import PlanOptions
from deployer.plan.start_faults import start_faults
from engines.errors import CheckpointError
from engines.spec import ModelSpec

Keys = Mapping[str, Any]

NOTICEABLE = 1.05  # a ratio nearer to 1 is not worth a row
MOST_ROWS = 6
MOST_COPY = 0.4  # share of the memory beyond which a second copy of the weights is not worth asking about


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What the plan says with some keys changed; times are limits."""

    words: str  # as typed: engine.tp=2
    runs_today: bool  # False: this version refuses the value
    kv_tokens: int
    batch: int  # priced requests at once
    token_ms: float  # alone
    first_token_ms: float
    requests_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a plan is computed from."""

    config: DeployConfig
    spec: ModelSpec
    hardware: Hardware
    options: PlanOptions

    def case(self) -> Case:
        """Return the case that it describes."""
        return case_of(self.config, self.spec, self.hardware)


def fits(figures: Figures) -> bool:
    """Tell whether the engine would start and take the priced request."""
    return figures.memory.refusal is None and figures.workload.total_tokens <= figures.memory.session_len


def largest_changes(question: Question, now: Figures) -> list[Change]:
    """Return the single changes with the largest effect on any figure, the largest first."""
    changes = [change for keys in single_changes(question) if (change := _change(question, keys))]
    weights = {change.words: _weight(change, now) for change in changes}
    noticeable = [change for change in changes if weights[change.words] > math.log(NOTICEABLE)]
    return sorted(noticeable, key=lambda change: -weights[change.words])[:MOST_ROWS]


def nearest_fits(question: Question) -> list[Change]:
    """Return the first change of each kind under which the plan fits, in the order of `fitting_changes`.

    Settings alone come first, then more GPUs, then smaller formats, then both. A kind is the set of its keys.
    """
    found: dict[tuple[str, ...], Change] = {}
    for keys in fitting_changes(question):
        if tuple(keys) not in found and (change := _change(question, keys)):
            found[tuple(keys)] = change
            if len(found) == 3:
                break
    return list(found.values())


def changed(config: DeployConfig, keys: Keys) -> DeployConfig:
    """Return the config with dotted keys replaced, `engine.tp` and the like."""
    for key, value in keys.items():
        group, _, name = key.partition(".")
        config = replace(config, **{group: replace(getattr(config, group), **{name: value})})
    return config


def single_changes(question: Question) -> Iterator[Keys]:
    """Yield what is worth asking "what if" about, one key at a time."""
    config, device = question.config, question.hardware
    if device.kind == "gpu":
        yield {"engine.tp": config.engine.tp * 2}
    yield from ({"quantization.weights": form} for form in _smaller_weights(question))
    yield from ({"quantization.kv": form} for form in _smaller_kv(question))
    yield {"engine.max_batch_size": config.engine.max_batch_size * 2}
    if config.engine.max_prefill_token_num >= 1024:
        yield {"engine.max_prefill_token_num": config.engine.max_prefill_token_num // 4}
    if 0.5 < config.engine.cache_max_entry_count < 0.95 and config.engine.num_gpu_blocks is None:
        yield {"engine.cache_max_entry_count": 0.95}
    yield from ({"engine.decode_weights": share} for share in _other_copy(question))
    vision = question.case().spec.vision
    if vision is not None:
        yield from vision.pixels.cheaper()


def fitting_changes(question: Question) -> Iterator[Keys]:
    """Yield what may make a deployment fit, the least costly first."""
    config = question.config
    if question.case().second_copy.layers:
        yield {"engine.decode_weights": 0.0}
    for divisor in (2, 4, 8):
        tokens = max(config.engine.max_prefill_token_num // divisor, 1)
        sequences = max(config.engine.max_batch_size // divisor, 1)
        yield {"engine.max_prefill_token_num": tokens, "engine.max_batch_size": sequences}
    if config.engine.cache_max_entry_count < 0.95:
        yield {"engine.cache_max_entry_count": 0.95}
    if config.engine.session_len is not None:
        for divisor in (2, 4, 8):
            yield {"engine.session_len": config.engine.session_len // divisor}
    ranks = [config.engine.tp * 2**i for i in (1, 2, 3)] if question.hardware.kind == "gpu" else []
    yield from ({"engine.tp": tp} for tp in ranks)
    smaller = list(_smaller_weights(question))
    yield from ({"quantization.weights": form} for form in smaller)
    yield from ({"engine.tp": tp, "quantization.weights": form} for form in smaller for tp in ranks)


def _smaller_weights(question: Question) -> Iterator[str]:
    if question.case().weights == "none":
        if question.spec.dtype == "bfloat16" and question.case().dtype != "float16":
            yield "bf12"
        if supports(question.hardware, "fp8"):
            yield "fp8"
        yield "awq"


def _smaller_kv(question: Question) -> Iterator[str]:
    if question.case().options.kv.format == "none":
        yield "bf12"
        yield "fp8" if supports(question.hardware, "fp8") else "int8"
        yield "int4"


def _other_copy(question: Question) -> Iterator[float]:
    """Yield 0 where there is a second copy of the weights, else the share that one needs."""
    config = question.config.engine
    if question.case().second_copy.layers:
        yield 0.0
        return
    asked = replace(question, config=changed(question.config, {"engine.decode_weights": 1.0})).case()
    needed = math.ceil(100 * asked.second_copy.num_bytes / question.hardware.memory_bytes) / 100
    if config.decode_weights < needed <= MOST_COPY:
        yield needed


def _change(question: Question, keys: Keys) -> Change | None:
    """Return the figures of a changed plan; None where no engine starts so, or it does not fit."""
    config = changed(question.config, keys)
    try:
        case = replace(question, config=config).case()
        then = figures_of(case, question.options)
    except CheckpointError:
        return None
    if start_faults(case) or not fits(then):
        return None
    return Change(
        words=" ".join(f"{key}={value}" for key, value in keys.items()),
        runs_today=runs_today(config),
        kv_tokens=then.memory.kv_tokens,
        batch=then.at_limit.batch,
        token_ms=then.at_limit.token_ms,
        first_token_ms=then.at_limit.first_token_ms,
        requests_per_s=then.at_limit.requests_per_s,
    )


def _weight(change: Change, now: Figures) -> float:
    """Return the largest effect on any figure, as the log of its ratio; both plans fit, so none is 0."""
    pairs = (
        (change.kv_tokens, now.memory.kv_tokens),
        (change.token_ms, now.at_limit.token_ms),
        (change.first_token_ms, now.at_limit.first_token_ms),
        (change.requests_per_s, now.at_limit.requests_per_s),
    )
    return max(abs(math.log(then / before)) for then, before in pairs)


def runs_today(config: DeployConfig) -> bool:
    """Tell whether this version takes the values: no rule objects and the schema names the formats."""
    formats = get_args(get_type_hints(QuantizationConfig)["weights"])
    return config.quantization.weights in formats and not any(True for rule in RULES for _ in rule(config))
