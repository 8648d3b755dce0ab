"""What a linear layer is stored as: a matrix, 12 bits a number, codes of 4 or 8, copies in 12 and 7.

`engines/ops.py` says what an op makes of one; `engines/quant/` makes them.

Legend: O outputs, I inputs, G groups of inputs; X and Y tiles down and across.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Bf12:
    """A bf16 matrix in numbers of 12 bits: a sign, 4 bits of exponent and 7 of mantissa.

    weight[o, i] = number[o, i] * factor[o]: exact from 2^-14 of the power of two in a row's largest number,
    the rest rounded to multiples of 2^-21 of it. `bf12_of` of `engines/quant/bf12_tiles.py` makes one; the
    order in a tile stands there.
    """

    tiles_YXB: Tensor  # uint8 [I / 128, O / 16, 3072]: 128 inputs x 16 outputs a tile
    factor_O: Tensor  # bf16 [O], powers of two


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp7:
    """An e4m3 matrix in numbers of 7 bits: a sign, 3 bits of exponent and 3 of mantissa, each itself e4m3.

    weight[o, i] = number[o, i] * scale[o]: exact from 2^-6 of the power of two in a row's largest code, the
    rest rounded to multiples of 2^-9 of it. `fp7_of` of `engines/quant/fp7_tiles.py` makes one; the order in
    a tile stands there.
    """

    tiles_YXB: Tensor  # uint8 [I / 256, O / 16, 3584]: 256 inputs x 16 outputs a tile
    scale_O: Tensor  # fp32 [O], that of the codes times a power of two


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """An unquantized linear layer, y = x @ weight.T + bias. Quantized ones are types of their own."""

    weight_OI: Tensor
    bias_O: Tensor | None
    bf12: Bf12 | None = None  # the same weight once more, for kernels that multiply few rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense12:
    """A layer of bf16 that lies in memory in 12 bits alone, y = x @ weight.T + bias."""

    bf12: Bf12
    bias_O: Tensor | None  # in the dtype of x


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4:
    """A linear layer with 4-bit codes and a scale and zero point a group of inputs: AWQ and GPTQ.

    y = x[:, perm] @ weight.T + bias, with g = i // group_size:
    weight[o, i] = (code[o, i] - zero[g, o]) * scale[g, o], products and sums in fp32.
    `linear_int4` of `engines/quant/int4_tiles.py` makes one; the order in a tile stands there.
    """

    tiles_XYB: (
        Tensor  # uint8 [ceil(O / 16), ceil(I / 64), 512]: 16 outputs x 64 inputs a tile; 0 past the edge
    )
    scales_GO: Tensor  # fp16 [groups, O], as the checkpoint has them
    zeros_GO: (
        Tensor  # uint8 [groups, O], 0 to 16: GPTQ's stored zero plus one; 8 where the codes are symmetric
    )
    group_size: int  # inputs of a group, in the order of `perm`; I = G * group_size
    perm_I: Tensor | None  # int64 [I]: the input that column i multiplies (GPTQ act-order); None: its own
    bias_O: Tensor | None  # in the dtype of x


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp8:
    """A linear layer in e4m3, a scale an output channel; rows of x are scaled to e4m3 on the way in (W8A8).

    y = (code(x) @ weight.T) * scale(x) * scale + bias, with scale(x) = max |row| / 448 and
    code(x) = e4m3(x / scale(x)).
    An implementation may keep x as it is: that is nearer to the unquantized layer.
    """

    weight_OI: Tensor  # float8_e4m3fn [O, I], contiguous
    scale_O: Tensor  # fp32 [O]
    bias_O: Tensor | None  # in the dtype of x
    fp7: Fp7 | None = None  # the same weight once more, for kernels that multiply few rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8:
    """A linear layer in int8, symmetric, a scale an output channel; rows of x likewise (SmoothQuant W8A8).

    y = (code(x) @ weight.T) * scale(x) * scale + bias, with scale(x) = max |row| / 127 and
    code(x) = round(x / scale(x)), ties to even.
    An implementation may keep x as it is: that is nearer to the unquantized layer.
    """

    weight_OI: Tensor  # int8 [O, I], contiguous
    scale_O: Tensor  # fp32 [O]
    bias_O: Tensor | None  # in the dtype of x


Weight = Dense | Dense12 | Int4 | Fp8 | Int8
