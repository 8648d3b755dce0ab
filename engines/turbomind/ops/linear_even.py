"""Launches `kernels/linear_even.cu`: products of some hundred rows of which every SM does the same share.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import planned, rows, scalar_name
from engines.turbomind.ops.product_operands import check_product, takes, weight_name
from engines.turbomind.scratch_bytes import even_sums_bytes
from engines.turbomind.tensor_map import LINE_BYTES, by_groups, lines

ROWS = (192, 256)  # of x in a tile, as the kernel is compiled for
_TILE = 128  # rows of the weight in a tile
_CONSUMERS = 256  # threads that multiply; one more warp copies
_ALIGNMENT = 1024
_BARRIER_BYTES = 16  # full and empty, a stage
_MOST_STAGES = 8


def fits(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Fp8 | Int8, *, gated: bool = False
) -> bool:
    """Return whether the kernel can take this product; not whether it is the fastest way to do it."""
    return 0 < num_rows <= max(ROWS) and takes(gpu, dtype, weight, gated=gated)


def linear_even(gpu: Gpu, x_TI: Tensor, weight: Dense, *, gated: bool = False) -> Tensor:
    """Return y = x @ W.T + b, or silu(first half of y) * second half where `gated`."""
    out = _product(gpu, rows(x_TI), None, weight, x_TI.dtype, gated=gated)
    return out.view(*x_TI.shape[:-1], -1)


def linear_even_codes(
    gpu: Gpu,
    codes_TI: Tensor,
    row_scale_T: Tensor,
    weight: Fp8 | Int8,
    dtype: torch.dtype,
    *,
    gated: bool = False,
) -> Tensor:
    """Return y = (codes @ W.T) * row scale * output scale + b as `dtype`, or its gated half, [T, O]."""
    return _product(gpu, codes_TI, row_scale_T, weight, dtype, gated=gated)


def stages_of(num_rows: int, *, bytes_per_block: int) -> int:
    """Return how many stages fit into a block's shared memory; `num_rows` is one of ROWS."""
    room = bytes_per_block - _ALIGNMENT - _beside(num_rows)
    return min(_MOST_STAGES, room // _stage_bytes(num_rows))


def constants(scalar: str, kind: str, *, num_rows: int, stages: int, gated: bool) -> Constants:
    """Return what the kernel is compiled with; `kind` is e4m3, int8 or the scalar."""
    return (
        ("SCALAR", scalar),
        ("WEIGHT", kind),
        ("ROWS", num_rows),
        ("STAGES", stages),
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
) -> Tensor:
    outputs, inputs = weight.weight_OI.shape
    written = outputs // 2 if gated else outputs
    out = torch.empty(len(x_TI), written, dtype=dtype, device=x_TI.device)
    optional = (row_scale_T, None if isinstance(weight, Dense) else weight.scale_O, weight.bias_O)
    operands = (x_TI, weight.weight_OI, out, *(operand for operand in optional if operand is not None))
    kernel, num_rows = planned(
        gpu, "linear_even", operands, lambda: _plan(gpu, x_TI, row_scale_T, weight, out, gated), gated
    )
    num_slabs = -(-inputs * x_TI.element_size() // LINE_BYTES)
    blocks = min(gpu.num_sms, -(-outputs // _TILE) * num_slabs)
    partials = gpu.scratch("linear_even partials", even_sums_bytes(gpu.num_sms))
    flags = gpu.scratch("linear_even flags", 4 * gpu.num_sms)
    kernel(
        gpu.stream(),
        (blocks, 1),
        gpu.tensor_map(by_groups(weight.weight_OI, _TILE, halves=1 + gated)),
        gpu.tensor_map(lines(x_TI, len(x_TI))),
        gpu.tensor_map(lines(out, num_rows if gated else num_rows // 2)),
        *(0 if operand is None else operand.data_ptr() for operand in optional),
        partials.data_ptr(),
        flags.data_ptr(),
        len(x_TI),
        written,
        num_slabs,
    )
    return out


def _plan(
    gpu: Gpu,
    x: Tensor,
    row_scale_T: Tensor | None,
    weight: Dense | Fp8 | Int8,
    out: Tensor,
    gated: bool,
) -> tuple[Kernel, int]:
    """Return the kernel for checked operands and the rows it is compiled for."""
    check_product(gpu, "linear_even", x, row_scale_T, weight, out)
    num_rows = next(number for number in ROWS if number >= len(x))
    stages = stages_of(num_rows, bytes_per_block=gpu.shared_bytes_per_block)
    scalar = scalar_name("linear_even", out)
    kernel = gpu.kernel(
        "linear_even.cu",
        "linear_even",
        constants(scalar, weight_name(weight, scalar), num_rows=num_rows, stages=stages, gated=gated),
        "MMMPPPPPiii",
        threads=_CONSUMERS + 32,
        shared_bytes=stages * _stage_bytes(num_rows) + _beside(num_rows) + _ALIGNMENT,
    )
    return kernel, num_rows


def _stage_bytes(num_rows: int) -> int:
    return (_TILE + num_rows) * LINE_BYTES + _BARRIER_BYTES


def _beside(num_rows: int) -> int:
    """Return the bytes of the rows that wait to be written and of their scales."""
    return num_rows * (LINE_BYTES + 4)
