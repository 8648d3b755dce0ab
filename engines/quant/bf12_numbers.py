"""bf16 numbers in 12 bits: what is kept of a number beside a power of two of its row.

A number is S EEEE MMMMMMM, in bits 15 and 10 to 0 of a half. Read as bf16, with those four bits as the
lowest of its exponent, times 2^base it is the number that it was made of: base = max(0, largest exponent
field of the row - 15). What is smaller than 2^(base - 126) becomes a subnormal of that kind, rounded to
nearest, ties to even. A row with inf or NaN has base 240, beyond every power of two.

Legend: D numbers of a row; leading axes are any.
"""

import torch
from torch import Tensor

SIGN = -0x8000  # of a number, as int16


def base_of(x_D: Tensor) -> Tensor:
    """Return what is taken off the exponents of each row of bf16, int16 [...]."""
    return ((x_D.view(torch.int16) & 0x7FFF).amax(dim=-1) >> 7).sub_(15).clamp_(min=0)


def numbers_of(x_D: Tensor, base: Tensor) -> Tensor:
    """Return rows of bf16 as numbers of 12 bits, int16 [..., D]: sign in bit 15, the rest in bits 10 to 0."""
    bits_D, base_1 = x_D.view(torch.int16), base.unsqueeze(-1)
    size_D = bits_D & 0x7FFF
    # Subnormals have the exponent of field 1, without the leading one.
    taken_D = (size_D >> 7).sub_(1).clamp_(min=0).minimum(base_1)
    size_D -= taken_D << 7
    # What the exponent could not give, the mantissa does. Past 9 nothing is left, whatever the shift.
    shift_D = (base_1 - taken_D).clamp_(max=9)
    half_D = (torch.ones_like(shift_D) << shift_D) >> 1
    odd_D = (size_D >> shift_D) & 1
    size_D += half_D.sub_(1).add_(odd_D).clamp_(min=0)
    return (size_D >> shift_D) | (bits_D & SIGN)
