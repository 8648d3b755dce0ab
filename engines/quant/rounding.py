"""Rounding weights to codes, and codes back to weights. Pure functions on matrices [O, I].

    4 bits   w = (code - zero) * scale for each output and group of inputs, scale in fp16, zero an integer
    8 bits   w = code * scale for each output, code int8 (127 steps a side) or e4m3

Legend: O outputs, I inputs, G groups, S inputs of a group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.quant.weight_quant import WeightFormat

LEAST_SCALE = 1e-5  # fp16 holds it with 8 bits; a group whose range is smaller is zero for all that matters


@dataclass(frozen=True, kw_only=True, slots=True)
class Codes:
    """A quantized matrix, columns in the order of the inputs."""

    codes_OI: Tensor  # uint8 0 to 15, int8 or e4m3
    scales_OG: Tensor  # fp16; 8 bits: fp32 [O, 1]
    zeros_OG: Tensor | None  # uint8; None: 8 bits
    group_I: Tensor | None = None  # int64: the group of each input; None: in order

    def dequantized(self) -> Tensor:
        """Return the matrix in fp32."""
        if self.zeros_OG is None:
            return self.codes_OI.float() * self.scales_OG
        inputs, groups = self.codes_OI.shape[1], self.scales_OG.shape[1]
        group_I = self.group_I
        if group_I is None:
            group_I = torch.arange(inputs, device=self.codes_OI.device) // (inputs // groups)
        return (self.codes_OI.float() - self.zeros_OG.float()[:, group_I]) * self.scales_OG.float()[
            :, group_I
        ]


def round_groups(weight_OI: Tensor, group_size: int) -> Codes:
    """Round to the nearest of 16 steps between the ends of each group."""
    weight_OGS = weight_OI.float().reshape(len(weight_OI), -1, group_size)
    scales_OG, zeros_OG = group_parameters(weight_OGS.amin(-1), weight_OGS.amax(-1), symmetric=False)
    codes_OGS = nearest(weight_OGS, scales_OG[..., None], zeros_OG[..., None])
    return Codes(
        codes_OI=codes_OGS.reshape(weight_OI.shape).to(torch.uint8),
        scales_OG=scales_OG.half(),
        zeros_OG=zeros_OG.to(torch.uint8),
    )


def group_parameters(low: Tensor, high: Tensor, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return scales, already rounded to fp16, and zero points 1 to 15, in fp32, of ranges low to high.

    GPTQ stores a zero point less one, which readers disagree on for 0; so 0 is not used, and a range that
    lies on one side of 0 is stretched to reach it.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        scale = (torch.maximum(-low / 8, high / 7)).clamp(min=LEAST_SCALE).half().float()
        return scale, torch.full_like(scale, 8)
    scale = ((high - low) / 15).clamp(min=LEAST_SCALE)
    zero = (-low / scale).round().clamp(1, 15)
    scale = torch.maximum(scale, torch.maximum(-low / (zero + 0.5), high / (15.5 - zero)))
    return scale.half().float(), zero


def nearest(weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Return the codes of weights, in fp32."""
    return ((weight / scale).round() + zero).clamp(0, 15)


def round_outputs(weight_OI: Tensor, form: WeightFormat) -> Codes:
    """Round to int8 or e4m3 with the scale of each output's largest weight."""
    largest = 127.0 if form == "int8" else 448.0
    weight_OI = weight_OI.float()
    scales_O1 = (weight_OI.abs().amax(-1, keepdim=True) / largest).clamp(min=1e-12)
    scaled_OI = (weight_OI / scales_O1).clamp(-largest, largest)
    codes_OI = scaled_OI.round().to(torch.int8) if form == "int8" else scaled_OI.to(torch.float8_e4m3fn)
    return Codes(codes_OI=codes_OI, scales_OG=scales_O1, zeros_OG=None)
