"""Launches `kernels/linear_tiles.cu`: products of many rows, with scales of codes and the gate of an FFN.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops.tiles_cut import (
    BOX_ROWS,
    LINE_BYTES,
    ROWS,
    THREADS,
    TilesCut,
    tiles_cut,
)
from engines.turbomind.tensor_map import TensorView

_FLOATS = (torch.bfloat16, torch.float16)
_CODES = {torch.float8_e4m3fn: "e4m3", torch.int8: "int8"}
_GATE_ROWS = 8  # that gate and that are gated take turns in a tile


def fits(gpu: Gpu, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False) -> bool:
    """Return whether the kernel can take products with a weight; not whether it is the fastest way."""
    outputs, inputs = weight.weight_OI.shape
    if gpu.capability != (9, 0) or dtype not in _FLOATS or not weight.weight_OI.is_contiguous():
        return False
    line = inputs * weight.weight_OI.element_size()
    return outputs % (2 * _GATE_ROWS if gated else _GATE_ROWS) == 0 and line % 16 == 0


def linear_tiles(
    gpu: Gpu, x_TI: Tensor, weight: Dense, *, gated: bool = False, cut: TilesCut | None = None
) -> Tensor:
    """Return y = x @ W.T + b, or silu(first half of y) * second half where `gated`.

    A given `cut` replaces the preferred one (benchmarks).
    """
    out = _product(gpu, rows(x_TI), None, weight, x_TI.dtype, gated=gated, cut=cut)
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
        lambda: _plan(gpu, x_TI, row_scale_T, weight, out, gated, cut),
        gated,
        cut,
    )
    kernel(
        gpu.stream(),
        (blocks, 1),
        gpu.tensor_map(_lines(x_TI, ROWS)),
        gpu.tensor_map(_weight_view(weight.weight_OI, used, gated=gated)),
        gpu.tensor_map(_lines(out, BOX_ROWS)),
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
    cut: TilesCut | None,
) -> tuple[Kernel, TilesCut, int]:
    """Return the kernel for checked operands, its cut and how many blocks stay."""
    outputs, inputs = weight.weight_OI.shape
    wanted: dict[str, tuple[Tensor, torch.dtype, tuple[int, ...]]] = {
        "x": (x, weight.weight_OI.dtype, (len(x), inputs)),
        "weight": (weight.weight_OI, weight.weight_OI.dtype, (outputs, inputs)),
    }
    if not isinstance(weight, Dense):
        assert row_scale_T is not None, "codes have a scale a row"
        wanted["row_scale"] = (row_scale_T, torch.float32, (len(x),))
        wanted["scale"] = (weight.scale_O, torch.float32, (outputs,))
    if weight.bias_O is not None:
        wanted["bias"] = (weight.bias_O, out.dtype, (outputs,))
    check(gpu, "linear_tiles", **wanted)
    cut = cut or tiles_cut(len(x), outputs, num_sms=gpu.num_sms, bytes_per_block=gpu.shared_bytes_per_block)
    scalar = scalar_name("linear_tiles", out)
    kernel = gpu.kernel(
        "linear_tiles.cu",
        "linear_tiles",
        constants(scalar, _CODES.get(x.dtype, scalar), cut, gated=gated),
        "MMMPPPiii",
        threads=THREADS,
        shared_bytes=cut.shared_bytes,
    )
    return kernel, cut, cut.num_blocks(len(x), outputs, num_sms=gpu.num_sms)


def _lines(matrix: Tensor, box_rows: int) -> TensorView:
    """Return a matrix as rows of 128-byte lines; the copy engine takes any elements for 16-bit ones."""
    num_rows, bytes_a_row = matrix.shape[0], matrix.shape[1] * matrix.element_size()
    return TensorView(
        address=matrix.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(bytes_a_row // 2, num_rows),
        strides_bytes=(bytes_a_row,),
        box=(LINE_BYTES // 2, box_rows),
    )


def _weight_view(weight_OI: Tensor, cut: TilesCut, *, gated: bool) -> TensorView:
    """Return a weight as the kernel copies it: its lower half by turns with its upper half where `gated`."""
    share = cut.columns // cut.cluster
    if not gated:
        return _lines(weight_OI, share)
    outputs, bytes_a_row = weight_OI.shape[0], weight_OI.shape[1] * weight_OI.element_size()
    half = outputs // 2
    return TensorView(
        address=weight_OI.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(bytes_a_row // 2, _GATE_ROWS, 2, half // _GATE_ROWS),
        strides_bytes=(bytes_a_row, half * bytes_a_row, _GATE_ROWS * bytes_a_row),
        box=(LINE_BYTES // 2, _GATE_ROWS, 2, share // (2 * _GATE_ROWS)),
    )
