"""How fast one rank of a case can go: the limit of its device, and what was measured to be reached of it."""

from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.hardware import Shares, flops_per_s, linear_share
from deployer.plan.number_formats import math_format


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Bytes and operations a second."""

    bytes_per_s: float
    layer_flops_per_s: float  # the decoder's linear layers, in the units that multiply the weight format
    flops_per_s: float  # head, attention and vision, in the compute dtype
    link_bytes_per_s: float
    all_reduce_s: float  # before the first byte
    shares: Shares | None  # None: the limit itself

    def linear_share(self, tokens: int) -> float:
        """Return which share of the limit matrix products over this many rows reach."""
        return 1.0 if self.shares is None else linear_share(self.shares, tokens)

    @property
    def prefill_attention_share(self) -> float:
        """Which share of the limit causal attention reaches."""
        return 1.0 if self.shares is None else self.shares.prefill_attention or 1.0


def limit(case: Case) -> Rates:
    """Return the rates that nothing on this device can pass."""
    device = case.hardware
    return Rates(
        bytes_per_s=device.memory_gbps * 1e9,
        layer_flops_per_s=flops_per_s(device, math_format(case.weights, case.dtype), otherwise=case.dtype),
        flops_per_s=flops_per_s(device, case.dtype, otherwise=case.dtype),
        link_bytes_per_s=(device.link_gbps or float("inf")) * 1e9,
        all_reduce_s=0.0,
        shares=None,
    )


def expected(case: Case) -> Rates | None:
    """Return the rates that were measured on this device; None where nothing was, or not for this format.

    Measured are plain bfloat16 matrix products, causal attention and the start of an all-reduce; all else
    stays at its limit.
    """
    device = case.hardware
    if device.shares is None or case.weights != "none":
        return None
    rates = limit(case)
    return Rates(
        bytes_per_s=rates.bytes_per_s,
        layer_flops_per_s=rates.layer_flops_per_s,
        flops_per_s=rates.flops_per_s,
        link_bytes_per_s=rates.link_bytes_per_s,
        all_reduce_s=(device.link_us or 0.0) * 1e-6 if case.tp > 1 else 0.0,
        shares=device.shares,
    )
