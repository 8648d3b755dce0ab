"""One GPU (or CPU) as `conf/hardware/*.yaml` describes it, and the rates that follow from it.

Every figure's source stands in its YAML file. `basis` says how to read them: `measured` are ceilings that
were reached on such a device, `datasheet` are peaks that no program reaches, so times computed from them are
lower limits.
"""

import math
import re
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
    """Which share of its roof each kind of kernel reaches on this device, 0 to 1, and what has no roof.

    None: not measured, and nothing is expected of a deployment that needs it.
    """

    linear_tokens: list[int]  # rows of the input, rising
    linear: list[float]  # weights in the compute dtype, the head too; one a row count
    linear_fp8: list[float] | None
    linear_int8: list[float] | None
    linear_int4: list[float] | None
    linear_bf12: list[float] | None  # of few rows that read bf16's second copy in 12 bits, the head too
    linear_fp7: list[float] | None  # of few rows that read e4m3's second copy in 7 bits
    decode_attention: float  # of the bandwidth, pages in the compute dtype
    decode_attention_12bit: float | None
    decode_attention_8bit: float | None
    decode_attention_4bit: float | None
    prefill_attention: float  # of the rate
    encoder: float  # of the rate, whole passes of a vision tower
    layer_us: float  # of a decoder layer whatever it computes: latencies that no launch hides
    step_us: float  # of a step, likewise


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """One device, and its link to others of its kind."""

    name: str
    kind: Literal["gpu", "cpu"]
    capability: list[int] | None  # compute capability, major and minor; None: no NVIDIA GPU
    num_sms: int | None  # multiprocessors; None: no NVIDIA GPU
    basis: Literal["measured", "datasheet"]
    memory_bytes: int  # what a process can see
    context_bytes: int  # taken before the first tensor
    memory_gbps: float  # 1e9 bytes/s, read and written
    tflops: Tflops
    group_bytes: int | None  # buffers of the communicator on each rank; None: there is no second device
    link_gbps: float | None  # 1e9 bytes/s in one direction to another device
    link_us: float | None  # a small all-reduce; None: not measured
    shares: Shares | None  # None: nothing measured


def is_named(hardware: Hardware, device: str) -> bool:
    """Tell whether torch's name of a GPU is that of this kind; a100 and a100_40g have the same."""
    return hardware.name.partition("_")[0] in re.sub(r"[^a-z0-9]", "", device.lower())


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


def share_at(curve: list[float], counts: list[int], tokens: int) -> float:
    """Return the measured share of a kernel over this many input rows.

    Between two measured counts it runs straight over log2 of the count; beyond the ends it stays.
    """
    known = list(zip(counts, curve, strict=True))
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
        "num_sms": hardware.num_sms,
        **{f"tflops.{name}": getattr(hardware.tflops, name) for name in Tflops.__dataclass_fields__},
    }
    faults = [
        f"hardware.{name}={value:g}: must be above 0"
        for name, value in positive.items()
        if value is not None and value <= 0
    ]
    if hardware.capability is not None and (len(hardware.capability) != 2 or min(hardware.capability) < 0):
        faults.append(f"hardware.capability={hardware.capability}: must be two numbers, as [9,0]")
    if (hardware.capability is None) != (hardware.num_sms is None):
        given = f"hardware.capability={hardware.capability} with hardware.num_sms={hardware.num_sms}"
        faults.append(f"{given}: an NVIDIA GPU has both, anything else has null for both")
    if hardware.shares is not None:
        faults += _share_faults(hardware.shares)
    if faults:
        raise ConfigError(faults)


def _share_faults(shares: Shares) -> list[str]:
    at, counts = "hardware.shares", shares.linear_tokens
    faults = []
    for name in (field for field in Shares.__dataclass_fields__ if field.startswith("linear")):
        curve = getattr(shares, name)
        if name == "linear_tokens" or curve is None:
            continue
        if len(curve) != len(counts) or not all(0 < share <= 1 for share in curve):
            rule = f"must be one share, above 0 and up to 1, for each of {at}.linear_tokens"
            faults.append(f"{at}.{name}={curve}: {rule}")
    if not counts or counts[0] < 1 or any(high <= low for low, high in pairwise(counts)):
        faults.append(f"{at}.linear_tokens={counts}: must rise")
    for name in (
        field for field in Shares.__dataclass_fields__ if "attention" in field or field == "encoder"
    ):
        share = getattr(shares, name)
        if share is not None and not 0 < share <= 1:
            faults.append(f"{at}.{name}={share:g}: must be above 0 and up to 1")
    for name in ("layer_us", "step_us"):
        if getattr(shares, name) < 0:
            faults.append(f"{at}.{name}={getattr(shares, name):g}: must be 0 or more")
    return faults
