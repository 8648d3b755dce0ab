"""Rules of `quantization.kv`: which formats of keys and values suit a model and its dtype."""

from deployer.config.hyper_parameters import head_dim
from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig
from deployer.config.suggest import any_of
from engines.memory.kv_bytes import dtype_rule, head_dim_rule, kv_formats


def kv_format_suits_the_heads(config: DeployConfig) -> Complaints:
    """Yield a format that wants other heads than the model has."""
    dim, form, kind = (
        head_dim(config.model.hyper_parameters or {}),
        config.quantization.kv,
        config.engine.kind,
    )
    rule = head_dim_rule(dim, form, kind=kind) if dim is not None else None
    if dim is not None and rule is not None:
        yield "quantization.kv", f"{rule}; use {any_of(kv_formats(dim, config.engine.dtype, kind=kind))}"


def kv_format_suits_the_dtype(config: DeployConfig) -> Complaints:
    """Yield a format that wants another dtype than `engine.dtype`; what `auto` becomes is not known here."""
    dim, dtype = head_dim(config.model.hyper_parameters or {}) or 0, config.engine.dtype
    rule = dtype_rule(dtype, config.quantization.kv)
    if rule is not None:
        yield (
            "quantization.kv",
            f"{rule}; use {any_of(kv_formats(dim, dtype))}, or engine.dtype=bfloat16",
        )
