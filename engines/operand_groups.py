"""What ops take beside tensors: operands that belong together, and in which order numbers lie.

Legend: as in `engines/ops.py`; S a picture's side in pixels, C colours, R rows of a table.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engines.linear_weight import Weight


@dataclass(frozen=True, kw_only=True, slots=True)
class BetweenAttentions:
    """What lies between the attentions of two layers: o and FFN of one, norm and qkv of the next."""

    o: Weight
    ffn_norm_H: Tensor
    gate_up: Weight  # gates are its first half
    down: Weight
    norm_H: Tensor
    qkv: Weight
    eps: float  # of both norms


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisPass:
    """One axis of a picture resized in 8 bits (`engines/vision/pixels/resample.py`).

    new[i] = clip8((2^21 + sum over k of old[first[i] + k] * weight[k, i]) >> 22)
    """

    is_down: bool  # rows become others; else columns
    first_N: Tensor  # int32
    weight_KN: Tensor  # int32; 0 where first[i] + k is no pixel of the window, which may be past the edge


@dataclass(frozen=True, kw_only=True, slots=True)
class BytePixels:
    """Pictures of bytes, and what a byte of each colour means: numbers that a tower reads."""

    bytes_ISSC: Tensor  # uint8
    numbers_C256: Tensor  # in the tower's dtype

    def numbers(self) -> Tensor:
        """Return what the bytes mean, [I, S, S, C]."""
        starts_C = torch.arange(0, 3 * 256, 256, dtype=torch.int32, device=self.bytes_ISSC.device)
        places_ISSC = self.bytes_ISSC + starts_C
        return self.numbers_C256.flatten().index_select(0, places_ISSC.flatten()).view(places_ISSC.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchLayout:
    """How patches become the rows of a tower's first product.

    A row has the numbers of its patch in the order of a convolution's weight, colour by colour; behind them
    1, whose column of the weight is the bias, and zeros. Where there is a class token, each picture's first
    row has a 1 behind the place of the bias, whose column is the token, and zeros.
    """

    patch: int  # pixels a side
    has_class: bool

    @property
    def num_pixels(self) -> int:
        """Return the numbers of a patch."""
        return 3 * self.patch**2

    @property
    def width(self) -> int:
        """Return the numbers of a row: a multiple of 8, so that fast products can read it."""
        return -(-(self.num_pixels + 2) // 8) * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedRows:
    """Rows that are added to each picture's alike."""

    # The first `length` and then the first ones again, so that a copy of 16 rows may run on.
    table_RO: Tensor
    length: int

    @classmethod
    def of(cls, rows_LO: Tensor) -> "RepeatedRows":
        """Return these rows, copied."""
        length = len(rows_LO)
        places = torch.arange(length + _RUN_ON, device=rows_LO.device) % length
        return cls(table_RO=rows_LO[places], length=length)


_RUN_ON = 15
Gelu = Literal["gelu", "gelu_tanh", "quick_gelu"]  # each is an op of the table, too
