"""Rows of keys and values in the formats of `engines/memory/kv_layer.py`: the truth for the kernels.

Legend: D head dim, B bytes of a row, S its parameters; leading axes are any.
"""

import torch
from torch import Tensor

from engines.memory.kv_layer import NIBBLE_ORDER
from engines.options import KvFormat
from engines.quant.bf12_numbers import base_of, numbers_of

FP8_MAX = 448.0
FP16_MAX = 65504.0


def quantize_rows(x_D: Tensor, format: KvFormat) -> tuple[Tensor, Tensor]:
    """Return codes, uint8 [..., B], and parameters, [..., S], of rows of any float type."""
    if format == "bf12":
        return _quantized_bf12(x_D.to(torch.bfloat16))
    x32_D = x_D.float()
    if format == "fp8":
        scale_1 = _fp16(_divided(x32_D.abs().amax(-1, keepdim=True), FP8_MAX))
        scaled_D = (x32_D * _inverse(scale_1)).clamp(-FP8_MAX, FP8_MAX)
        return scaled_D.to(torch.float8_e4m3fn).view(torch.uint8), scale_1
    steps = 15 if format == "int4" else 255
    middle = (steps + 1) // 2
    low_1, high_1 = x32_D.amin(-1, keepdim=True), x32_D.amax(-1, keepdim=True)
    scale_1 = _fp16(_divided(high_1 - low_1, float(steps)))
    zero_1 = _fp16(low_1 + middle * scale_1.float())
    codes_D = ((x32_D - zero_1.float()) * _inverse(scale_1)).round() + middle
    codes_D = codes_D.clamp(0, steps).to(torch.uint8)
    return (_packed(codes_D) if format == "int4" else codes_D), torch.cat([scale_1, zero_1], dim=-1)


def dequantize_rows(codes_B: Tensor, scales_S: Tensor, format: KvFormat, dtype: torch.dtype) -> Tensor:
    """Return rows [..., D]; computed in fp32, rounded once."""
    scale_1 = scales_S[..., :1].float()
    if format == "bf12":
        return (_unpacked_bf12(codes_B).float() * scale_1).to(dtype)
    if format == "fp8":
        return (codes_B.view(torch.float8_e4m3fn).float() * scale_1).to(dtype)
    codes_D, middle = (_unpacked(codes_B), 8) if format == "int4" else (codes_B, 128)
    return ((codes_D.float() - middle) * scale_1 + scales_S[..., 1:].float()).to(dtype)


def _divided(x: Tensor, number: float) -> Tensor:
    # NOTE: torch multiplies by 1 / number on a GPU where it divides on a CPU; tensors it divides on both.
    return x / torch.full_like(x, number)


def _fp16(x: Tensor) -> Tensor:
    return x.clamp(-FP16_MAX, FP16_MAX).half()


def _inverse(scale_1: Tensor) -> Tensor:
    return torch.where(scale_1 == 0, 0.0, 1.0 / scale_1.float())


def _packed(codes_D: Tensor) -> Tensor:
    words_W8 = codes_D.view(*codes_D.shape[:-1], -1, 8)[..., list(NIBBLE_ORDER)]
    return (words_W8[..., ::2] | words_W8[..., 1::2] << 4).flatten(-2)


def _unpacked(codes_B: Tensor) -> Tensor:
    nibbles_W42 = torch.stack([codes_B & 15, codes_B >> 4], dim=-1)
    words_W8 = nibbles_W42.view(*codes_B.shape[:-1], -1, 8)
    return words_W8[..., [NIBBLE_ORDER.index(element) for element in range(8)]].flatten(-2)


def _quantized_bf12(x_D: Tensor) -> tuple[Tensor, Tensor]:
    base = base_of(x_D)
    numbers_G4x = numbers_of(x_D, base).view(*x_D.shape[:-1], -1, 4, 8)
    last_G1x = numbers_G4x[..., 3:, :]
    halves_G3x = numbers_G4x[..., :3, :] | torch.cat(
        [
            (last_G1x & 0x0700) << 3 | last_G1x >> 1 & 0x4000,
            (last_G1x & 0x00F0) << 7,
            (last_G1x & 0x000F) << 11,
        ],
        dim=-2,
    )
    scale_1 = (base + 15 << 7).view(torch.bfloat16).unsqueeze(-1)  # 2^(base - 112)
    return halves_G3x.flatten(-3).view(torch.uint8), scale_1


def _unpacked_bf12(codes_B: Tensor) -> Tensor:
    """Return the numbers times 2^112, which is how fp16 reads their bits three places higher, [..., D]."""
    halves_G3x = codes_B.view(torch.int16).view(*codes_B.shape[:-1], -1, 3, 8)
    first, second, third = halves_G3x.unbind(-2)
    last = (first << 1 & -0x8000) | (first >> 3 & 0x0700) | (second >> 7 & 0x00F0) | (third >> 11 & 0x000F)
    numbers_D = torch.cat([halves_G3x, last.unsqueeze(-2)], dim=-2).flatten(-3)
    return (numbers_D & -0x8000 | (numbers_D & 0x07FF) << 3).view(torch.float16)
