"""e4m3 matrices in 7 bits a number: the order of a tile in memory.

A row's numbers are those of `fp7_numbers.py`; its scale is that of the codes times 2^base, so number * scale
is the weight.

A tile is 16 outputs x 256 inputs in 3584 bytes, in the order in which wgmma wants its first operand from
registers. Of step s (32 inputs), lane 4 g + c holds four registers, four numbers each, the first one lowest:

    R0  output g      inputs 32 s + 4 c + {0..3}         R2  output g      inputs 32 s + 16 + 4 c + {0..3}
    R1  output g + 8  inputs 32 s + 4 c + {0..3}         R3  output g + 8  inputs 32 s + 16 + 4 c + {0..3}

Bit 6 of a number's byte is free. The registers of steps 2 p and 2 p + 1 are W0 to W7; W7 lies in those bits:

    A_i = W_i | (bits CARRIED[i] of the bytes of W7, moved to bits 6),  i = 0..6

Word w = 7 p + i of a lane is A_i, and stands at byte w / 4 * 512 + lane * 16 + w % 4 * 4.

Legend: O outputs, I inputs, R outputs of a stretch; Y and X tiles along I and O, B bytes.
"""

import torch
from torch import Tensor

from engines.ops import Fp7
from engines.quant.fp7_numbers import NAN_BASE, base_of, numbers_of
from engines.quant.fp7_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS, takes_shape
from engines.quant.packed_tiles import tiles_of

CARRIED = (7, 5, 4, 3, 2, 1, 0)  # bits of a byte of W7, by the word that carries them
_NUMBERS_AT_ONCE = 1 << 25  # whose integers wait in memory while they are packed, some 250 MB
_OWN, _FREE = -0x40404041, 0x40404040  # 0xbfbfbfbf: the bits of four numbers, and those between


def fp7_of(codes_OI: Tensor, scale_O: Tensor) -> Fp7 | None:
    """Return an e4m3 matrix in 7 bits, on its device; None where it is not whole tiles or holds NaN.

    Nor is one packed with a scale past fp32. Asks the device once for both.
    """
    if codes_OI.dtype != torch.float8_e4m3fn or codes_OI.dim() != 2 or not takes_shape(*codes_OI.shape):
        return None
    outputs, inputs = codes_OI.shape
    stretch = max(1, _NUMBERS_AT_ONCE // inputs // TILE_OUTPUTS) * TILE_OUTPUTS
    parts = torch.split(codes_OI, stretch)
    base_O = torch.cat([base_of(part_RI) for part_RI in parts])
    scaled_O = scale_O * _power(base_O)
    if not bool(((base_O != NAN_BASE) & scaled_O.isfinite()).all()):
        return None
    packed = (
        _words(numbers_of(part_RI, base_R))
        for part_RI, base_R in zip(parts, torch.split(base_O, stretch), strict=True)
    )
    tiles_YXB = tiles_of(
        packed, inputs // TILE_INPUTS, outputs // TILE_OUTPUTS, TILE_BYTES, device=codes_OI.device
    )
    return Fp7(tiles_YXB=tiles_YXB, scale_O=scaled_O)


def codes_of(fp7: Fp7) -> Tensor:
    """Return the numbers as they are multiplied, e4m3 [O, I]."""
    tiles_y, tiles_x, _ = fp7.tiles_YXB.shape
    #                                                  y        x       piece g  c  word
    words = fp7.tiles_YXB.view(torch.int32).view(tiles_y, tiles_x, 7, 8, 4, 4)
    pairs = words.permute(1, 3, 0, 2, 5, 4).reshape(tiles_x, 8, tiles_y, 4, 7, 4)  # x g y p i c
    own = (pairs & _OWN).unbind(dim=4)
    last = torch.zeros_like(own[0])
    for bit, carrier in zip(CARRIED, (pairs & _FREE).unbind(dim=4), strict=True):
        last |= _moved(carrier, bit - 6)
    whole = torch.stack([*own, last], dim=4)  # x g y p w c
    steps = whole.view(tiles_x, 8, tiles_y, 4, 2, 2, 2, 4)  # w: step of the pair, k half, output half
    numbers = steps.permute(0, 6, 1, 2, 3, 4, 5, 7).contiguous().view(torch.float8_e4m3fn)
    return numbers.view(tiles_x * TILE_OUTPUTS, tiles_y * TILE_INPUTS)


def weight_of(fp7: Fp7) -> Tensor:
    """Return the matrix that the numbers stand for, fp32 [O, I]."""
    return codes_of(fp7).float() * fp7.scale_O[:, None]


def rounded(codes_OI: Tensor) -> Tensor:
    """Return an e4m3 matrix of any shape as 7 bits hold it; one with NaN as it is."""
    base_O = base_of(codes_OI)
    if bool((base_O == NAN_BASE).any()):
        return codes_OI
    numbers_OI = numbers_of(codes_OI, base_O).view(torch.float8_e4m3fn)
    return (numbers_OI.float() * _power(base_O)[:, None]).to(torch.float8_e4m3fn)


def _power(base_O: Tensor) -> Tensor:
    return (base_O.int() + 127 << 23).view(torch.float32)


def _moved(words: Tensor, left: int) -> Tensor:
    """Return words shifted to the left, or to the right; no bit may be lost that way."""
    return words << left if left >= 0 else words >> -left


def _words(numbers_RI: Tensor) -> Tensor:
    """Return the words of whole tiles' numbers, int32 [Y, X, piece, g, c, word of the piece]."""
    outputs, inputs = numbers_RI.shape
    tiles_x, tiles_y = outputs // TILE_OUTPUTS, inputs // TILE_INPUTS
    #                                                     x  output half g  y    p step k half c
    fours = numbers_RI.view(torch.int32).view(tiles_x, 2, 8, tiles_y, 4, 2, 2, 4)
    whole = fours.permute(0, 2, 3, 4, 5, 6, 1, 7).reshape(tiles_x, 8, tiles_y, 4, 8, 4)  # x g y p w c
    *own, last = whole.unbind(dim=4)
    carried = [word | (_moved(last, 6 - bit) & _FREE) for bit, word in zip(CARRIED, own, strict=True)]
    pairs = torch.stack(carried, dim=4)  # x g y p i c
    return pairs.view(tiles_x, 8, tiles_y, 7, 4, 4).permute(2, 0, 3, 1, 5, 4)
