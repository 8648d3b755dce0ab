"""e4m3 codes in 7 bits: what is kept of a code beside a power of two of its row.

A number is S EEE MMM, in bits 7 and 5 to 0 of a byte. Read as e4m3, times 2^base it is the code that it was
made of: base = max(0, largest exponent field of the row - 7). What is smaller than 2^(base - 6) becomes a
subnormal of that kind, rounded to nearest, ties to even. A row with NaN has base 16, beyond every code.

Legend: D codes of a row; leading axes are any.
"""

import torch
from torch import Tensor

NAN_BASE = 16
_SIZE, _SIGN, _NAN = 0x7F, -0x80, 0x7F  # of a code, as int8


def base_of(codes_D: Tensor) -> Tensor:
    """Return what is taken off the exponents of each row of e4m3, int8 [...]."""
    largest = (codes_D.view(torch.int8) & _SIZE).amax(dim=-1)
    return torch.where(largest == _NAN, NAN_BASE, (largest >> 3).sub_(7).clamp_(min=0)).to(torch.int8)


def numbers_of(codes_D: Tensor, base: Tensor) -> Tensor:
    """Return rows of e4m3 as numbers of 7 bits, int8 [..., D]: sign in bit 7, the rest in bits 5 to 0."""
    bits_D, base_1 = codes_D.view(torch.int8), base.unsqueeze(-1)
    size_D = bits_D & _SIZE
    # Subnormals have the exponent of field 1, without the leading one.
    taken_D = (size_D >> 3).sub_(1).clamp_(min=0).minimum(base_1)
    size_D -= taken_D << 3
    # What the exponent could not give, the mantissa does. Past 5 nothing is left, whatever the shift.
    shift_D = (base_1 - taken_D).clamp_(max=5)
    half_D = (torch.ones_like(shift_D) << shift_D) >> 1
    odd_D = (size_D >> shift_D) & 1
    size_D += half_D.sub_(1).add_(odd_D).clamp_(min=0)
    return (size_D >> shift_D) | (bits_D & _SIGN)
