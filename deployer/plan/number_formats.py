"""Bits of a stored weight, and the units that multiply it, for each weight format.

The plan counts formats from their definition, also those that no engine here runs yet.
"""

from typing import Literal

from deployer.plan.hardware import DTYPE_BYTES, Dtype, MathFormat

WeightFormat = Literal["none", "awq", "gptq", "fp8", "int8"]

GROUP = 128  # input channels that share a scale in the published AWQ and GPTQ checkpoints


def weight_bits(form: WeightFormat, dtype: Dtype) -> float:
    """Return bits a weight of a quantized linear layer.

    awq, gptq: 4 bits, and for each group of 128 a float16 scale and a 4-bit zero point: 4 + (16 + 4) / 128 =
    4.15625. fp8, int8: 8 bits; the one scale an output row is below 0.1 % and left out.
    """
    if form in ("awq", "gptq"):
        return 4 + (16 + 4) / GROUP
    return 8.0 if form in ("fp8", "int8") else 8.0 * DTYPE_BYTES[dtype]


def math_format(form: WeightFormat, dtype: Dtype) -> MathFormat:
    """Return what the units multiply: 4-bit weights widened to the compute dtype, 8-bit ones as they are."""
    if form == "fp8":
        return "fp8"
    return "int8" if form == "int8" else dtype
