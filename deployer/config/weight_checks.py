"""The rule of `quantization.weights`: which formats suit the dtype that an engine computes in."""

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig


def weight_format_suits_the_dtype(config: DeployConfig) -> Complaints:
    """Yield a format that wants another dtype than `engine.dtype`; what `auto` becomes is not known here."""
    rule = weight_rule(config.engine.dtype, config.quantization.weights)
    if rule is not None:
        yield "quantization.weights", f"{rule}; use engine.dtype=bfloat16 or quantization=auto"


def weight_rule(dtype: str, weights: str) -> str | None:
    """Return what weights ask of the compute dtype, where this one does not fulfil it.

    float32, in which a CPU computes, holds every number of bfloat16.
    """
    if weights != "bf12" or dtype != "float16":
        return None
    return "12 bits are those of bfloat16 numbers, whose range float16 has not"
