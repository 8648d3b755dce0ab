"""How fast one rank of a case can go: the limit of its device, and what was measured to be reached of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deployer.plan.case import Case
from deployer.plan.hardware import Shares, flops_per_s, share_at
from deployer.plan.narrow_weights import narrow_weights
from deployer.plan.number_formats import math_format
from engines.weights.decode_copy import CopyFormat

# What `Shares` calls the kernels of a format.
WEIGHT_CURVES = {
    "none": "linear",
    "bf12": "linear",  # of rows that multiply them unpacked; of few rows that of copies
    "fp8": "linear_fp8",
    "int8": "linear_int8",
    "awq": "linear_int4",
    "gptq": "linear_int4",
}
COPY_CURVES: Mapping[CopyFormat, str] = {"bf12": "linear_bf12", "fp7": "linear_fp7"}
KV_SHARES = {
    "none": "decode_attention",
    "bf12": "decode_attention_12bit",
    "fp8": "decode_attention_8bit",
    "int8": "decode_attention_8bit",
    "int4": "decode_attention_4bit",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """What kernels reach of the limit, and the time that no limit knows."""

    linear_tokens: list[int]
    layers: list[float]  # linear layers of the decoder; one a row count
    plain: list[float]  # head
    copies: Mapping[CopyFormat, list[float]]  # products of few rows that read a copy of their weight
    decode_attention: float
    prefill_attention: float
    encoder: float
    layer_s: float
    step_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Bytes and operations a second."""

    bytes_per_s: float
    layer_flops_per_s: float  # the decoder's linear layers, in the units that multiply the weight format
    flops_per_s: float  # head, attention and vision, in the compute dtype
    link_bytes_per_s: float
    all_reduce_s: float  # before the first byte
    reached: Reached | None  # None: all of it

    def layer_share(self, tokens: int) -> float:
        """Return which share of the limit the decoder's linear layers reach over this many rows."""
        reached = self.reached
        return 1.0 if reached is None else share_at(reached.layers, reached.linear_tokens, tokens)

    def plain_share(self, tokens: int) -> float:
        """Return the same of the head, whose weights are in the compute dtype."""
        reached = self.reached
        return 1.0 if reached is None else share_at(reached.plain, reached.linear_tokens, tokens)

    def copy_share(self, form: CopyFormat, tokens: int) -> float:
        """Return the same of products that read a second copy of their weight, of the floor of its bytes."""
        reached = self.reached
        return 1.0 if reached is None else share_at(reached.copies[form], reached.linear_tokens, tokens)

    @property
    def decode_attention_share(self) -> float:
        """Which share of the bandwidth attention reaches that reads the cache."""
        return 1.0 if self.reached is None else self.reached.decode_attention

    @property
    def prefill_attention_share(self) -> float:
        """Which share of the rate causal attention reaches."""
        return 1.0 if self.reached is None else self.reached.prefill_attention

    @property
    def encoder_share(self) -> float:
        """Which share of the rate a pass of the vision tower reaches, all of its kernels together."""
        return 1.0 if self.reached is None else self.reached.encoder


def limit(case: Case) -> Rates:
    """Return the rates that nothing on this device can pass."""
    device = case.hardware
    return Rates(
        bytes_per_s=device.memory_gbps * 1e9,
        layer_flops_per_s=flops_per_s(device, math_format(case.weights, case.dtype), otherwise=case.dtype),
        flops_per_s=flops_per_s(device, case.dtype, otherwise=case.dtype),
        link_bytes_per_s=(device.link_gbps or float("inf")) * 1e9,
        all_reduce_s=0.0,
        reached=None,
    )


def expected(case: Case) -> Rates | None:
    """Return the rates that were measured on this device; None for formats that were not."""
    device = case.hardware
    if device.shares is None:
        return None
    reached = _reached(
        device.shares,
        weights=case.weights,
        kv=case.options.kv.format,
        copies={copy.format for copy in narrow_weights(case).layers.values()},
    )
    if reached is None:
        return None
    all_reduce_s = (device.link_us or 0.0) * 1e-6 if case.tp > 1 else 0.0
    return replace(limit(case), all_reduce_s=all_reduce_s, reached=reached)


def _reached(shares: Shares, *, weights: str, kv: str, copies: set[CopyFormat]) -> Reached | None:
    layers, attention = getattr(shares, WEIGHT_CURVES[weights]), getattr(shares, KV_SHARES[kv])
    copied = {form: getattr(shares, COPY_CURVES[form]) for form in copies}
    if layers is None or attention is None or None in copied.values():
        return None
    return Reached(
        linear_tokens=shares.linear_tokens,
        layers=layers,
        plain=shares.linear,
        copies=copied,
        decode_attention=attention,
        prefill_attention=shares.prefill_attention,
        encoder=shares.encoder,
        layer_s=shares.layer_us * 1e-6,
        step_s=shares.step_us * 1e-6,
    )
