"""Launches `kernels/linear_rows.cu`: linear layers of many rows with what follows them in a vision tower.

Legend: T rows, I inputs, O outputs.
"""

from typing import TypeGuard

import torch
from torch import Tensor

from engines.ops import Dense, RepeatedRows, Weight
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops.after_product import ENUMERATORS, After
from engines.turbomind.ops.rows_cut import BOX_ROWS, ROWS, THREADS, RowsCut, rows_cut
from engines.turbomind.tensor_map import lines

_SLAB = 64  # inputs of a stage
_FLOATS = (torch.bfloat16, torch.float16)
_LEAST_ROWS = 512  # below, the library and an op apart
# What an op apart would cost does not grow with the inputs, tiles that leave the GPU empty do: of one tile of
# InternViT 1,024 inputs take 9.4 µs against 11.7, 4,096 take 23.8 against 21.6 (kernels/LOG.md).
_FEW_INPUTS = 2048
_LEAST_FILL = 0.6


def fits(gpu: Gpu, x_TI: Tensor, weight: Weight) -> bool:
    """Return whether the kernel can take this product; not whether it is the fastest way to do it."""
    if not isinstance(weight, Dense) or gpu.capability != (9, 0) or x_TI.dtype not in _FLOATS:
        return False
    outputs, inputs = weight.weight_OI.shape
    return outputs % 8 == 0 and inputs % 8 == 0 and weight.weight_OI.is_contiguous() and x_TI.numel() > 0


def takes(weight: Weight, gpu: Gpu, x_TI: Tensor) -> TypeGuard[Dense]:
    """Return whether the kernel is the fastest way to a product and what follows it."""
    num_rows, inputs = x_TI.numel() // max(1, x_TI.shape[-1]), x_TI.shape[-1]
    if num_rows < _LEAST_ROWS or not fits(gpu, x_TI, weight) or not isinstance(weight, Dense):
        return False
    outputs = weight.weight_OI.shape[0]
    cut = rows_cut(num_rows, outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
    return inputs <= _FEW_INPUTS or cut.fill(num_rows, outputs, num_sms=gpu.num_sms) >= _LEAST_FILL


def linear_rows(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Dense,
    *,
    after: After = "nothing",
    residual_TO: Tensor | RepeatedRows | None = None,
    scale_O: Tensor | None = None,
    cut: RowsCut | None = None,
) -> Tensor:
    """Return y = x @ W.T + b, a GELU of it, or residual + y * scale; y is rounded before what follows.

    Rows that repeat are added to those of x by turns. A given `cut` replaces the preferred one (benchmarks).
    """
    x = rows(x_TI)
    outputs, inputs = weight.weight_OI.shape
    residual, period = _residual(residual_TO, len(x))
    assert (after == "add") == (residual is not None), "a residual is what `add` adds to"
    optional = {"bias": weight.bias_O, "scale": scale_O, "residual": residual}
    present = {name: operand for name, operand in optional.items() if operand is not None}
    kernel, used, blocks = planned(
        gpu,
        "linear_rows",
        (x, weight.weight_OI, *present.values()),
        lambda: _plan(gpu, x, weight.weight_OI, present, period, after, cut),
        period,
        after,
        weight.bias_O is None,
        cut,
    )
    out = torch.empty(len(x), outputs, dtype=x.dtype, device=x.device)
    out_map = gpu.tensor_map(lines(out, BOX_ROWS))
    kernel(
        gpu.stream(),
        (blocks, 1),
        gpu.tensor_map(lines(x, ROWS)),
        gpu.tensor_map(lines(weight.weight_OI, used.columns // used.cluster)),
        out_map if residual is None else gpu.tensor_map(lines(residual, BOX_ROWS)),
        out_map,
        *(0 if operand is None else operand.data_ptr() for operand in (weight.bias_O, scale_O)),
        len(x),
        outputs,
        -(-inputs // _SLAB),
        period,
    )
    return out.view(*x_TI.shape[:-1], outputs)


def constants(scalar: str, cut: RowsCut, after: After) -> Constants:
    """Return what the kernel is compiled with."""
    return (
        ("SCALAR", scalar),
        ("COLUMNS", cut.columns),
        ("CLUSTER", cut.cluster),
        ("STAGES", cut.stages),
        ("AFTER", ENUMERATORS[after]),
    )


def _residual(residual_TO: Tensor | RepeatedRows | None, num_rows: int) -> tuple[Tensor | None, int]:
    """Return the residual's rows, and how many there are before they repeat."""
    if isinstance(residual_TO, RepeatedRows):
        once = num_rows == residual_TO.length
        return residual_TO.table_RO[:num_rows] if once else residual_TO.table_RO, residual_TO.length
    return None if residual_TO is None else rows(residual_TO), num_rows


def _plan(
    gpu: Gpu,
    x: Tensor,
    weight_OI: Tensor,
    present: dict[str, Tensor],
    period: int,
    after: After,
    cut: RowsCut | None,
) -> tuple[Kernel, RowsCut, int]:
    """Return the kernel for checked operands, its cut and how many blocks stay."""
    outputs, inputs = weight_OI.shape
    residual_rows = period if period == len(x) else period + BOX_ROWS - 1
    shapes = {"bias": (outputs,), "scale": (outputs,), "residual": (residual_rows, outputs)}
    check(
        gpu,
        "linear_rows",
        x=(x, x.dtype, (len(x), inputs)),
        weight=(weight_OI, x.dtype, (outputs, inputs)),
        **{name: (operand, x.dtype, shapes[name]) for name, operand in present.items()},
    )
    cut = cut or rows_cut(len(x), outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
    kernel = _kernel(gpu, scalar_name("linear_rows", x), cut, after)
    return kernel, cut, cut.num_blocks(len(x), outputs, num_sms=gpu.num_sms)


def _kernel(gpu: Gpu, scalar: str, cut: RowsCut, after: After) -> Kernel:
    return gpu.kernel(
        "linear_rows.cu",
        "linear_rows",
        constants(scalar, cut, after),
        "MMMMPPiiii",
        threads=THREADS,
        shared_bytes=cut.shared_bytes,
    )
