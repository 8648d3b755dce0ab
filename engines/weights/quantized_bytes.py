"""Which parameters of a quantized model are packed, and the bytes that they take on one rank. Torch-free.

The planner predicts with it; tests hold it to what the loader makes.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from types import MappingProxyType

from engines.families import rules_for
from engines.quant import bf12_shape
from engines.quant.weight_quant import WeightQuant
from engines.spec import ModelSpec
from engines.weights.in_12_bits import lies_in_12_bits
from engines.weights.parameter import Parameter
from engines.weights.parameters import parameters
from engines.weights.split import local_shape

TILE_OUTPUTS, TILE_INPUTS = 16, 64  # of 4-bit codes: `engines/quant/int4_tiles.py`

_LINEAR = re.compile(
    r"(decoder\.layers\.\d+\.(vision_)?(qkv|o|gate_up|down)"
    r"|vision\d*\.(.*\.)?\d+\.(qkv|o|fc\d|gate_up|down)"
    r"|projector\.(fc\d?|gate_up|down|high|low))\.weight"
)


def is_linear(parameter: Parameter) -> bool:
    """Tell whether a parameter is the matrix of a linear layer that may be quantized."""
    return len(parameter.shape) == 2 and _LINEAR.fullmatch(parameter.name) is not None


def is_quantized(parameter: Parameter, spec: ModelSpec, quant: WeightQuant, *, tp: int) -> bool:
    """Tell whether a model of this quantization packs a parameter.

    4-bit formats pack the decoder alone, 8-bit ones every linear layer; what the config keeps is left out.
    12 bits are made of the decoder and its head, as far as they are whole tiles on a rank.
    """
    if not quant.is_stored:
        return lies_in_12_bits(parameter, tp=tp)
    decoder_only = quant.is_4_bit or quant.decoder_only
    if not is_linear(parameter) or (decoder_only and not parameter.name.startswith("decoder.")):
        return False
    return not any(quant.keeps(module) for module in _modules(spec).get(parameter.name, ()))


def quantized_bytes(parameter: Parameter, quant: WeightQuant, *, tp: int) -> int:
    """Return the bytes of a quantized weight on one rank, its bias apart.

    4 bits: 512 bytes a tile of 16 outputs and 64 inputs, and for each output and group a 2-byte scale and a
    1-byte zero point; with act-order 8 bytes an input. 8 bits: a byte a weight and 4 bytes an output. 12
    bits: `bf12_shape.bf12_bytes`.
    """
    outputs, inputs = local_shape(parameter, tp=tp)
    if not quant.is_stored:
        return bf12_shape.bf12_bytes(outputs, inputs)
    if not quant.is_4_bit:
        return outputs * inputs + 4 * outputs
    tiles = -(-outputs // TILE_OUTPUTS) * -(-inputs // TILE_INPUTS)
    groups = -(-inputs // (quant.group_size or inputs))
    return 512 * tiles + 3 * outputs * groups + (8 * inputs if quant.act_order else 0)


def parameter_bytes(
    parameter: Parameter, spec: ModelSpec, quant: WeightQuant | None, *, dtype_bytes: int, tp: int
) -> int:
    """Return the bytes of any parameter on one rank."""
    if quant is not None and is_quantized(parameter, spec, quant, tp=tp):
        return quantized_bytes(parameter, quant, tp=tp)
    return dtype_bytes * prod(local_shape(parameter, tp=tp))


@lru_cache(maxsize=16)
def _modules(spec: ModelSpec) -> Mapping[str, Sequence[str]]:
    """Return the names that each parameter's modules have in the checkpoint, by the parameter's name."""
    numbers = sorted({part for one in parameters(spec) for part in one.name.split(".") if part.isdigit()})
    modules: dict[str, list[str]] = {}
    for rule in rules_for(spec).rules:
        for number in numbers if "{i}" in rule.target else [""]:
            module = rule.source.replace("{i}", number).removesuffix(".weight")
            modules.setdefault(rule.target.replace("{i}", number), []).append(module)
    return MappingProxyType(modules)
