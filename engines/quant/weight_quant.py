"""How the quantized linear layers of a model are stored. Torch-free.

`engines/families/quantization.py` reads it from the checkpoint's own files, `engines/quant/packed_layers.py`
reads the layers by it.
"""

import re
from dataclasses import dataclass
from typing import Literal

WeightFormat = Literal["awq", "gptq", "int8", "fp8", "bf12"]  # bf12: made of bfloat16 while it is loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightQuant:
    """The number format of the quantized linear layers of a model."""

    format: WeightFormat
    group_size: int | None = None  # awq, gptq: inputs that share a scale; None: all of a layer
    act_order: bool = False  # gptq: inputs are grouped by weight, so that each layer brings a permutation
    zero_offset: int = 0  # gptq: what is added to a stored zero point
    scale_suffix: str = ".weight_scale"  # int8, fp8: the name of a layer's scales
    decoder_only: bool = False  # int8, fp8: towers and projectors are not quantized whatever `kept` says
    kept: tuple[str, ...] = ()  # modules that stay as they are: parts of names, or `re:` and a pattern

    @property
    def is_4_bit(self) -> bool:
        """Whether weights are codes of 4 bits with scales and zero points of groups."""
        return self.format in ("awq", "gptq")

    @property
    def is_stored(self) -> bool:
        """Whether a checkpoint holds the weights so; else they become so as they are loaded."""
        return self.format != "bf12"

    def keeps(self, module: str) -> bool:
        """Tell whether a module of the checkpoint stays unquantized."""
        return any(
            re.match(entry[3:], module) is not None if entry.startswith("re:") else entry in module
            for entry in self.kept
        )
