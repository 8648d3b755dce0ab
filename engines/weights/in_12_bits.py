"""Which parameters of a bfloat16 model lie in memory in 12 bits alone, where that is asked for. Torch-free.

`quantization.weights=bf12`: the linear layers of the decoder and its head, each packed as it is loaded. What
is not whole tiles on a rank stays as it is, and so does a head that is the embedding.
"""

import re

from engines.quant import bf12_shape
from engines.spec import ModelSpec
from engines.weights.parameter import Parameter
from engines.weights.parameters import parameters
from engines.weights.split import local_shape

_LAYERS = re.compile(r"(decoder\.layers\.\d+\.(vision_)?(qkv|o|gate_up|down)|decoder\.head)\.weight")


def lies_in_12_bits(parameter: Parameter, *, tp: int) -> bool:
    """Tell whether a parameter is packed on a rank of `tp`."""
    return _may(parameter) and bf12_shape.takes_shape(*local_shape(parameter, tp=tp))


def left_in_16_bits(spec: ModelSpec, *, tp: int) -> list[str]:
    """Return the layers of the decoder that are not packed, as they are not whole tiles on a rank."""
    return [
        parameter.name.removesuffix(".weight")
        for parameter in parameters(spec)
        if _may(parameter) and not lies_in_12_bits(parameter, tp=tp)
    ]


def _may(parameter: Parameter) -> bool:
    return _LAYERS.fullmatch(parameter.name) is not None
