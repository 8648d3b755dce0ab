"""One linear layer in every kind of weight."""

import torch

from engines.ops import Dense, Fp8, Int8, Weight
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
