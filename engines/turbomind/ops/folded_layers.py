"""The layers between two attentions with their norms inside the products: four kernels in place of six.

What a norm multiplies a row by multiplies the row's products just as well, so the product before it adds the
residual, and the one behind it takes rows that are not scaled yet (`kernels/device/folded_norm.cuh`).

Legend: T rows, A attended, H hidden, X qkv.
"""

import torch
from torch import Tensor

from engines.ops import BetweenAttentions, Dense, Dense12, Int4, Weight
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import rows
from engines.turbomind.ops import linear_bf12, linear_int4_hopper, linear_skinny_int4
from engines.turbomind.ops.folded_norm import Added, Normed, added, kept_bytes
from engines.turbomind.ops.linear_choice import reads_bf12

# Rows at which this takes less time in whole steps. Else norms apart cost nothing: they run while the weights
# of the product behind them are on their way, kernels/LOG.md. Fewer rows of 4 bits are `linear_chain_int4`'s.
_INT4_ROWS = frozenset((*range(5, 9), *range(17, 65)))
_BF12_ROWS = frozenset(range(17, 65))


def folds(gpu: Gpu, num_rows: int, dtype: torch.dtype, between: BetweenAttentions) -> bool:
    """Return whether these layers go this way: all four are of 4 bits or are there in 12.

    Layers in fp16 do not: rows that are not scaled yet may leave its range.
    """
    if dtype is not torch.bfloat16 or num_rows not in _INT4_ROWS | _BF12_ROWS:
        return False
    for before, behind, gated in ((between.o, between.gate_up, True), (between.down, between.qkv, False)):
        parts = _parts(gpu, num_rows, before) if _fits(gpu, num_rows, before, parts=None) else None
        if parts is None or not _fits(gpu, num_rows, behind, gated=gated, parts=parts):
            return False
    return True


def folded_layers(
    gpu: Gpu, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor]:
    """Return (the next layer's qkv [T, X], the sum that it norms [T, H])."""
    ffn = _added(gpu, rows(residual_TH), between.ffn_norm_H, between.o)
    x_TH = _product(gpu, attended_TA, between.o, ffn)
    gated_TF = _product(gpu, x_TH, between.gate_up, _normed(ffn, between), gated=True)
    following = _added(gpu, ffn.h_TH, between.norm_H, between.down)
    x_TH = _product(gpu, gated_TF, between.down, following)
    return _product(gpu, x_TH, between.qkv, _normed(following, between)), following.h_TH


def _added(gpu: Gpu, residual_TH: Tensor, weight_H: Tensor, layer: Weight) -> Added:
    parts = _parts(gpu, len(residual_TH), layer)
    assert parts is not None, "what is taken leaves squares"
    return added(residual_TH, weight_H, parts)


def _normed(before: Added, between: BetweenAttentions) -> Normed:
    return Normed(squares_TP=before.squares_TP, eps=between.eps)


def _product(gpu: Gpu, x_TI: Tensor, layer: Weight, norm: Added | Normed, *, gated: bool = False) -> Tensor:
    if isinstance(layer, Int4) and _is_skinny(len(x_TI), gated=gated):
        return linear_skinny_int4.linear_skinny_int4(gpu, x_TI, layer, norm=norm)
    if isinstance(layer, Int4):
        return linear_int4_hopper.linear_int4_hopper(gpu, x_TI, layer, gated=gated, norm=norm)
    assert isinstance(layer, Dense | Dense12) and layer.bf12 is not None, "what is taken is there in 12 bits"
    return linear_bf12.linear_bf12(gpu, x_TI, layer.bf12, layer.bias_O, gated=gated, norm=norm)


def _fits(gpu: Gpu, num_rows: int, layer: Weight, *, gated: bool = False, parts: int | None) -> bool:
    """Return whether the kernel takes the product and should: before a norm, or behind one of many parts."""
    kept, dtype = kept_bytes(parts), torch.bfloat16
    match layer:
        case Int4() if _is_skinny(num_rows, gated=gated):
            fits = linear_skinny_int4.fits(gpu, num_rows, dtype, layer, parts=parts or 0)
            return fits and num_rows in _INT4_ROWS
        case Int4():
            fits = linear_int4_hopper.fits(gpu, num_rows, dtype, layer, gated=gated, kept_bytes=kept)
            return fits and num_rows in _INT4_ROWS
        case Dense(bf12=bf12) | Dense12(bf12=bf12) if bf12 is not None:
            fits = linear_bf12.fits(gpu, num_rows, dtype, bf12, gated=gated, kept_bytes=kept)
            outputs, num_sms = len(bf12.factor_O), gpu.num_sms
            reads = reads_bf12(num_rows=num_rows, outputs=outputs, num_sms=num_sms, gated=gated)
            return fits and reads and num_rows in _BF12_ROWS
        case _:
            return False


def _is_skinny(num_rows: int, *, gated: bool) -> bool:
    """Return whether a product of 4-bit codes is that of few rows, which applies no gates."""
    return num_rows <= linear_skinny_int4.ROWS[-1] and not gated


def _parts(gpu: Gpu, num_rows: int, layer: Weight) -> int | None:
    if isinstance(layer, Int4) and _is_skinny(num_rows, gated=False):
        return linear_skinny_int4.squares_parts(gpu, num_rows, layer)
    if isinstance(layer, Int4):
        return linear_int4_hopper.squares_parts(gpu, num_rows, layer)
    assert isinstance(layer, Dense | Dense12) and layer.bf12 is not None, "what fits is there in 12 bits"
    return linear_bf12.squares_parts(gpu, num_rows, layer.bf12)
