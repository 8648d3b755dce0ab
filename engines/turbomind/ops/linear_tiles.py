"""Launches `kernels/linear_tiles.cu`: products of many rows, with scales of codes and the gate of an FFN.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import planned, rows, scalar_name
from engines.turbomind.ops.product_operands import check_product, takes, weight_name
from engines.turbomind.ops.tiles_cut import (
    BOX_ROWS,
    ROWS,
    THREADS,
    TilesCut,
    tiles_cut,
)
from engines.turbomind.tensor_map import LINE_BYTES, by_groups, lines


def fits(gpu: Gpu, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False) -> bool:
    """Return whether the kernel can take products with a weight; not whether it is the fastest way."""
    return takes(gpu, dtype, weight, gated=gated)


def linear_tiles(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Dense,
    *,
    gated: bool = False,
    new_weight: bool = False,
    cut: TilesCut | None = None,
) -> Tensor:
    """Return y = x @ W.T + b, or silu(first half of y) * second half where `gated`.

    A `new_weight` comes from a kernel that may still run; others are read before that one has ended. A given
    `cut` replaces the preferred one (benchmarks).
    """
    out = _product(gpu, rows(x_TI), None, weight, x_TI.dtype, gated=gated, new_weight=new_weight, cut=cut)
    return out.view(*x_TI.shape[:-1], -1)


def linear_tiles_codes(
    gpu: Gpu,
    codes_TI: Tensor,
    row_scale_T: Tensor,
    weight: Fp8 | Int8,
    dtype: torch.dtype,
    *,
    gated: bool = False,
    cut: TilesCut | None = None,
) -> Tensor:
    """Return y = (codes @ W.T) * row scale * output scale + b as `dtype`, or its gated half, [T, O]."""
    return _product(gpu, codes_TI, row_scale_T, weight, dtype, gated=gated, cut=cut)


def constants(scalar: str, kind: str, cut: TilesCut, *, gated: bool) -> Constants:
    """Return what the kernel is compiled with; `kind` is e4m3, int8 or the scalar."""
    return (
        ("SCALAR", scalar),
        ("WEIGHT", kind),
        ("COLUMNS", cut.columns),
        ("CLUSTER", cut.cluster),
        ("STAGES", cut.stages),
        ("GATED", int(gated)),
    )


def _product(
    gpu: Gpu,
    x_TI: Tensor,
    row_scale_T: Tensor | None,
    weight: Dense | Fp8 | Int8,
    dtype: torch.dtype,
    *,
    gated: bool,
    cut: TilesCut | None,
    new_weight: bool = False,
) -> Tensor:
    outputs, inputs = weight.weight_OI.shape
    written = outputs // 2 if gated else outputs
    out = torch.empty(len(x_TI), written, dtype=dtype, device=x_TI.device)
    optional = (row_scale_T, None if isinstance(weight, Dense) else weight.scale_O, weight.bias_O)
    operands = (x_TI, weight.weight_OI, out, *(operand for operand in optional if operand is not None))
    kernel, used, blocks = planned(
        gpu,
        "linear_tiles",
        operands,
        lambda: _plan(gpu, x_TI, row_scale_T, weight, out, gated, new_weight, cut),
        gated,
        new_weight,
        cut,
    )
    weight_OI, share = weight.weight_OI, used.columns // used.cluster
    kernel(
        gpu.stream(),
        (blocks, 1),
        gpu.tensor_map(lines(x_TI, ROWS)),
        gpu.tensor_map(by_groups(weight_OI, share, halves=2) if gated else lines(weight_OI, share)),
        gpu.tensor_map(lines(out, BOX_ROWS)),
        *(0 if operand is None else operand.data_ptr() for operand in optional),
        len(x_TI),
        written,
        -(-inputs * x_TI.element_size() // LINE_BYTES),
    )
    return out


def _plan(
    gpu: Gpu,
    x: Tensor,
    row_scale_T: Tensor | None,
    weight: Dense | Fp8 | Int8,
    out: Tensor,
    gated: bool,
    new_weight: bool,
    cut: TilesCut | None,
) -> tuple[Kernel, TilesCut, int]:
    """Return the kernel for checked operands, its cut and how many blocks stay."""
    check_product(gpu, "linear_tiles", x, row_scale_T, weight, out)
    outputs = weight.weight_OI.shape[0]
    cut = cut or tiles_cut(len(x), outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
    scalar = scalar_name("linear_tiles", out)
    kernel = gpu.kernel(
        "linear_tiles.cu",
        "linear_tiles",
        constants(scalar, weight_name(weight, scalar), cut, gated=gated),
        "MMMPPPiii",
        threads=THREADS,
        shared_bytes=cut.shared_bytes,
        in_order=new_weight,
    )
    return kernel, cut, cut.num_blocks(len(x), outputs, num_sms=gpu.num_sms)
