"""How weights are to be quantized: what `deploy quantize` is told, for the code that does it. Torch-free."""

from dataclasses import dataclass

from engines.quant.weight_quant import WeightFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to quantize the linear layers of a decoder."""

    format: WeightFormat
    group_size: int | None  # awq, gptq: inputs that share a scale; None: all of a layer
    search: bool  # awq: scales and rounding by what flows through; int8: migration. False: round to nearest
    symmetric: bool  # gptq: zero point 8 everywhere
    act_order: bool  # gptq: the inputs that matter most are rounded first
    damping: float  # gptq, awq: share of the mean curvature that is added to each input's own
    vision: bool  # int8, fp8: linear layers of towers too, rounded to nearest

    @property
    def is_4_bit(self) -> bool:
        """Whether weights become codes of 4 bits in groups."""
        return self.format in ("awq", "gptq")

    @property
    def compensates(self) -> bool:
        """Whether inputs that are rounded later make up for the errors of those before."""
        return self.format == "gptq" or (self.format == "awq" and self.search)
