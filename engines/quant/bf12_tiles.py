"""bf16 matrices in 12 bits a number: the order of a tile in memory.

A row's numbers are those of `bf12_numbers.py`, its factor is 2^base: number * factor is the weight.

A tile is 16 outputs x 128 inputs in 3072 bytes, in the order in which mma and wgmma want their first operand
from registers. Of step s (16 inputs), lane 4 g + c holds four registers, two numbers each, the even one low:

    R0  output g      inputs 16 s + 2 c + {0, 1}         R2  output g      inputs 16 s + 8 + 2 c + {0, 1}
    R1  output g + 8  inputs 16 s + 2 c + {0, 1}         R3  output g + 8  inputs 16 s + 8 + 2 c + {0, 1}

A half of a register has four bits free, 14 to 11; those of R0, R1 and R2 take R3:

    A0 = R0 | (R3 & 0x07000700) << 3 | (R3 & 0x80008000) >> 1
    A1 = R1 | (R3 & 0x00f000f0) << 7
    A2 = R2 | (R3 & 0x000f000f) << 11

Word w = 3 s + i of a lane is A_i, and stands at byte w / 4 * 512 + lane * 16 + w % 4 * 4.

Legend: O outputs, I inputs, R outputs of a stretch; Y and X tiles along I and O, B bytes.
"""

import torch
from torch import Tensor

from engines.ops import Bf12
from engines.quant.bf12_numbers import base_of, numbers_of
from engines.quant.bf12_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS, takes_shape
from engines.quant.packed_tiles import tiles_of

MOST_BASE = 127  # 2^127 is bf16's largest power of two; a row beyond has numbers of 2^16 and more
_NUMBERS_AT_ONCE = 1 << 24  # whose integers wait in memory while they are packed, some 250 MB
_OWN = -0x78007801  # 0x87ff87ff: the bits of two numbers in a register
_SIGNS = -0x7FFF8000  # of two numbers


def bf12_of(weight_OI: Tensor) -> Bf12 | None:
    """Return a bf16 matrix in 12 bits, on its device; None where it is not whole tiles or has other numbers.

    Not packed are inf, NaN, and numbers of 2^16 and more. Asks the device once for what the largest are.
    """
    if weight_OI.dtype != torch.bfloat16 or weight_OI.dim() != 2 or not takes_shape(*weight_OI.shape):
        return None
    outputs, inputs = weight_OI.shape
    stretch = max(1, _NUMBERS_AT_ONCE // inputs // TILE_OUTPUTS) * TILE_OUTPUTS
    parts = torch.split(weight_OI, stretch)
    base_O = torch.cat([base_of(part_RI) for part_RI in parts])
    if int(base_O.max()) > MOST_BASE:
        return None
    packed = (
        _words(numbers_of(part_RI, base_R))
        for part_RI, base_R in zip(parts, torch.split(base_O, stretch), strict=True)
    )
    tiles_YXB = tiles_of(
        packed, inputs // TILE_INPUTS, outputs // TILE_OUTPUTS, TILE_BYTES, device=weight_OI.device
    )
    return Bf12(tiles_YXB=tiles_YXB, factor_O=_factor(base_O))


def weight_of(bf12: Bf12) -> Tensor:
    """Return the matrix that the numbers stand for, bf16 [O, I], on their device."""
    tiles_y, tiles_x, _ = bf12.tiles_YXB.shape
    outputs, inputs = tiles_x * TILE_OUTPUTS, tiles_y * TILE_INPUTS
    weight_OI = torch.empty(outputs, inputs, dtype=torch.bfloat16, device=bf12.factor_O.device)
    stretch = max(1, _NUMBERS_AT_ONCE // inputs // TILE_OUTPUTS)
    for first in range(0, tiles_x, stretch):
        tiles = slice(first, first + stretch)
        rows = slice(first * TILE_OUTPUTS, (first + stretch) * TILE_OUTPUTS)
        numbers_RI = _unpacked(bf12.tiles_YXB[:, tiles])
        torch.mul(numbers_RI, bf12.factor_O[rows, None], out=weight_OI[rows])
    return weight_OI


def _unpacked(tiles_YXB: Tensor) -> Tensor:
    """Return the numbers of a stretch of tiles without their factors, bf16 [R, I]."""
    tiles_y, tiles_x, _ = tiles_YXB.shape
    #                                               y        x       piece g  c  word
    words = tiles_YXB.view(torch.int32).view(tiles_y, tiles_x, 6, 8, 4, 4)
    steps = words.permute(1, 3, 0, 2, 5, 4).reshape(tiles_x, 8, tiles_y, 8, 3, 4)  # x g y step i c
    a0, a1, a2 = steps.unbind(dim=4)
    last = (a0 >> 3 & 0x07000700) | (a1 >> 7 & 0x00F000F0) | (a2 >> 11 & 0x000F000F)
    last |= a0 << 1 & _SIGNS
    low = torch.stack([a0 & _OWN, a2 & _OWN], dim=-2)
    high = torch.stack([a1 & _OWN, last], dim=-2)
    pairs = torch.stack([low, high], dim=1)  # x half g y step h c
    return pairs.reshape(tiles_x * TILE_OUTPUTS, tiles_y * TILE_INPUTS // 2).view(torch.bfloat16)


def rounded(weight_OI: Tensor) -> Tensor:
    """Return a bf16 matrix of any shape as 12 bits hold it; one with numbers past them as it is."""
    base_O = base_of(weight_OI)
    if int(base_O.max()) > MOST_BASE:
        return weight_OI
    return numbers_of(weight_OI, base_O).view(torch.bfloat16) * _factor(base_O)[:, None]


def _factor(base_O: Tensor) -> Tensor:
    return (base_O + 127 << 7).view(torch.bfloat16)


def _words(numbers_RI: Tensor) -> Tensor:
    """Return the words of whole tiles' numbers, int32 [Y, X, piece, g, c, word of the piece]."""
    outputs, inputs = numbers_RI.shape
    tiles_x, tiles_y = outputs // TILE_OUTPUTS, inputs // TILE_INPUTS
    #                                                     x     half g  y     step h  c
    pairs = numbers_RI.view(torch.int32).view(tiles_x, 2, 8, tiles_y, 8, 2, 4)
    r0, r2 = pairs[:, 0].unbind(dim=-2)
    r1, r3 = pairs[:, 1].unbind(dim=-2)
    words = torch.stack(
        [
            r0 | (r3 & 0x07000700) << 3 | (r3 >> 1 & 0x40004000),
            r1 | (r3 & 0x00F000F0) << 7,
            r2 | (r3 & 0x000F000F) << 11,
        ],
        dim=4,
    )  # x g y step i c
    return words.view(tiles_x, 8, tiles_y, 6, 4, 4).permute(2, 0, 3, 1, 5, 4)
