"""Which units multiply a weight format. Bytes: `engines/weights/quantized_bytes.py`."""

from typing import Literal

from deployer.plan.hardware import Dtype, MathFormat

WeightFormat = Literal["none", "bf12", "awq", "gptq", "fp8", "int8"]


def math_format(form: WeightFormat, dtype: Dtype) -> MathFormat:
    """Return what the units multiply: 12 and 4 bits widened to the compute dtype, 8 bits as they are."""
    if form == "fp8":
        return "fp8"
    return "int8" if form == "int8" else dtype
