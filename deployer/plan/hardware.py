"""One GPU (or CPU) as `conf/hardware/*.yaml` describes it, and the rates that follow from it.

Every figure's source stands in its YAML file. `basis` says how to read them: `measured` are ceilings that
were reached on such a device, `datasheet` are peaks that no program reaches, so times computed from them are
lower limits.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from deployer.errors import ConfigError

Dtype = Literal["float32", "bfloat16", "float16"]
MathFormat = Literal["float32", "bfloat16", "float16", "fp8", "int8"]

DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tflops:
    """Dense matrix rates, TFLOP/s; None where the device has no units for the format."""

    float32: float
    bfloat16: float | None
    float16: float | None
    fp8: float | None
    int8: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Which share of its roof a kernel was measured to reach on this device, 0 to 1."""

    linear_tokens: list[int]  # rows of the input, rising
    linear: list[float]  # one a row count
    prefill_attention: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """One device, and its link to others of its kind."""

    name: str
    kind: Literal["gpu", "cpu"]
    basis: Literal["measured", "datasheet"]
    memory_bytes: int  # what a process can see
    context_bytes: int  # taken before the first tensor
    memory_gbps: float  # 1e9 bytes/s, read and written
    tflops: Tflops
    group_bytes: int | None  # buffers of the communicator on each rank; None: there is no second device
    link_gbps: float | None  # 1e9 bytes/s in one direction to another device
    link_us: float | None  # a small all-reduce; None: not measured
    shares: Shares | None  # None: nothing measured


def supports(hardware: Hardware, form: MathFormat) -> bool:
    """Tell whether the device has units for a number format."""
    return getattr(hardware.tflops, form) is not None


def flops_per_s(hardware: Hardware, form: MathFormat, *, otherwise: Dtype) -> float:
    """Return operations a second in a format.

    A device without units for it computes in `otherwise`, and without those in float32.
    """
    for name in (form, otherwise, "float32"):
        rate = getattr(hardware.tflops, name)
        if rate is not None:
            return float(rate) * 1e12
    raise AssertionError("every device has float32")


def linear_share(shares: Shares, tokens: int) -> float:
    """Return the measured share for a matrix product with this many input rows.

    Between two measured counts it runs straight over log2 of the count; beyond the ends it stays.
    """
    known = list(zip(shares.linear_tokens, shares.linear, strict=True))
    if tokens <= known[0][0]:
        return known[0][1]
    for (low, at_low), (high, at_high) in pairwise(known):
        if tokens <= high:
            part = math.log2(tokens / low) / math.log2(high / low)
            return at_low + part * (at_high - at_low)
    return known[-1][1]


def check_hardware(hardware: Hardware) -> None:
    """Raise ConfigError with every figure that no device can have."""
    positive = {
        "memory_bytes": hardware.memory_bytes,
        "memory_gbps": hardware.memory_gbps,
        "link_gbps": hardware.link_gbps,
        **{f"tflops.{name}": getattr(hardware.tflops, name) for name in Tflops.__dataclass_fields__},
    }
    faults = [
        f"hardware.{name}={value:g}: must be above 0"
        for name, value in positive.items()
        if value is not None and value <= 0
    ]
    if hardware.shares is not None:
        faults += _share_faults(hardware.shares)
    if faults:
        raise ConfigError(faults)


def _share_faults(shares: Shares) -> list[str]:
    faults = []
    counts, key = shares.linear_tokens, "hardware.shares.linear"
    if len(shares.linear) != len(counts) or not all(0 < share <= 1 for share in shares.linear):
        faults.append(
            f"{key}={shares.linear}: must be one share, above 0 and up to 1, for each of {key}_tokens"
        )
    if not counts or counts[0] < 1 or any(high <= low for low, high in pairwise(counts)):
        faults.append(f"{key}_tokens={counts}: must rise")
    return faults
