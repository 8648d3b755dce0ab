"""Quantized linear layers of random codes, for engines that run without a checkpoint.

Scales are such that activations keep their size, as in `engines/weights/load.py`.
"""

import torch
from torch import Tensor

from engines.ops import Dense12, Fp8, Int4, Int8
from engines.quant.bf12_layer import layer_in_12_bits
from engines.quant.int4_tiles import linear_int4
from engines.quant.linear_tensors import tensors_of
from engines.quant.weight_quant import WeightQuant
from engines.weights.parameter import Parameter
from engines.weights.split import local_shape

GROUP_SIZES = (128, 64, 32, 16, 8)  # taken in turn where a checkpoint's own does not divide a rank's inputs
INT4_DEVIATION, INT8_DEVIATION, E4M3_DEVIATION = 4.61, 73.6, 1.0  # of the codes drawn below


def random_quantized(
    parameter: Parameter, quant: WeightQuant, generator: torch.Generator, *, tp: int
) -> dict[str, Tensor]:
    """Return the tensors of one rank's share of a layer."""
    name, (outputs, inputs) = parameter.name.removesuffix(".weight"), local_shape(parameter, tp=tp)
    deviation = parameter.shape[1] ** -0.5
    weight: Dense12 | Int4 | Int8 | Fp8
    if quant.is_4_bit:
        weight = _int4(outputs, inputs, quant, deviation, generator)
    elif quant.is_stored:
        weight = _eight_bits(outputs, inputs, quant, deviation, generator)
    else:
        drawn = torch.empty(outputs, inputs, dtype=torch.bfloat16, device=generator.device)
        weight = layer_in_12_bits(drawn.normal_(std=deviation, generator=generator), name)
    return tensors_of(weight, name)


def _int4(
    outputs: int, inputs: int, quant: WeightQuant, deviation: float, generator: torch.Generator
) -> Int4:
    wanted = quant.group_size or inputs
    size = next((size for size in (wanted, *GROUP_SIZES) if inputs % size == 0), inputs)
    device, shape = generator.device, (inputs // size, outputs)
    codes = torch.randint(16, (outputs, inputs), dtype=torch.uint8, device=device, generator=generator)
    perm = torch.randperm(inputs, device=device, generator=generator) if quant.act_order else None
    return linear_int4(
        codes,
        scales_GO=torch.full(shape, deviation / INT4_DEVIATION, device=device),
        zeros_GO=torch.full(shape, 8, dtype=torch.uint8, device=device),
        perm_I=perm,
    )


def _eight_bits(
    outputs: int, inputs: int, quant: WeightQuant, deviation: float, generator: torch.Generator
) -> Int8 | Fp8:
    device = generator.device
    if quant.format == "int8":
        codes = torch.randint(
            -127, 128, (outputs, inputs), dtype=torch.int8, device=device, generator=generator
        )
        scale = torch.full((outputs,), deviation / INT8_DEVIATION, device=device)
        return Int8(weight_OI=codes, scale_O=scale, bias_O=None)
    drawn = torch.randn(outputs, inputs, dtype=torch.bfloat16, device=device, generator=generator)
    scale = torch.full((outputs,), deviation / E4M3_DEVIATION, device=device)
    return Fp8(weight_OI=drawn.to(torch.float8_e4m3fn), scale_O=scale, bias_O=None)
