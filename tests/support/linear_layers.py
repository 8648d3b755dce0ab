"""One linear layer in every kind of weight."""

from dataclasses import replace

import torch

from engines.ops import Dense, Dense12, Fp8, Int8, Weight
from engines.quant.bf12_layer import layer_in_12_bits
from engines.quant.bf12_tiles import bf12_of
from engines.quant.fp7_tiles import fp7_of
from engines.quant.int4_tiles import linear_int4

BF16 = torch.bfloat16


def layers(gpu, outputs: int, inputs: int, group_size: int) -> dict[str, Weight]:
    """Return random layers of this shape on the device of `gpu`, each with a bias."""
    device = gpu.device
    weight, scale = torch.randn(outputs, inputs, device=device), torch.rand(outputs, device=device)
    bias = torch.randn(outputs, dtype=BF16, device=device)
    groups = inputs // group_size
    int4 = linear_int4(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=device),
        scales_GO=torch.rand(groups, outputs, device=device).half(),
        zeros_GO=torch.randint(0, 17, (groups, outputs), dtype=torch.uint8, device=device),
        perm_I=torch.randperm(inputs, device=device),
        bias_O=bias,
    )
    return {
        "dense": Dense(weight_OI=weight.to(BF16), bias_O=bias),
        "int4": int4,
        "fp8": Fp8(weight_OI=weight.to(torch.float8_e4m3fn), scale_O=scale, bias_O=bias),
        "int8": Int8(weight_OI=(30 * weight).clamp(-127, 127).to(torch.int8), scale_O=scale, bias_O=bias),
    }


def in_12_bits(gpu, outputs: int, inputs: int) -> Dense12:
    """Return a random layer that has 12 bits alone."""
    layer = layer_in_12_bits(torch.randn(outputs, inputs, dtype=BF16, device=gpu.device), "layer")
    return replace(layer, bias_O=torch.randn(outputs, dtype=BF16, device=gpu.device))


def copied(gpu, outputs: int, inputs: int) -> Dense:
    """Return a layer whose copy in 12 bits is of twice the weight: the result tells which was read."""
    weight = torch.randn(outputs, inputs, device=gpu.device).to(BF16)
    return Dense(weight_OI=weight, bias_O=None, bf12=bf12_of(2 * weight))


def copied_codes(gpu, outputs: int, inputs: int) -> tuple[Fp8, Fp8]:
    """Return a layer whose copy in 7 bits is of twice the weight, and one of twice the weight without."""
    codes = (torch.randn(outputs, inputs, device=gpu.device) * 50).clamp(-448, 448).to(torch.float8_e4m3fn)
    scale = (torch.rand(outputs, device=gpu.device) + 0.5) / 800
    copy = fp7_of(codes, 2 * scale)
    assert copy is not None
    layer = Fp8(weight_OI=codes, scale_O=scale, bias_O=None, fp7=copy)
    return layer, Fp8(weight_OI=codes, scale_O=2 * scale, bias_O=None)
