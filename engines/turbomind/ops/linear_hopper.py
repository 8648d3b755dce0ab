"""Launches `kernels/linear_hopper.cu`."""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int8
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check, rows, scalar_name
from engines.turbomind.ops.hopper_cut import (
    HopperCut,
    Kind,
    hopper_cut,
    most_rows,
    slab_inputs,
)
from engines.turbomind.tensor_map import TensorView, lines

FLOATS = (torch.bfloat16, torch.float16)


def fits(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Fp8 | Int8) -> bool:
    """Return whether the kernel can take this product; not whether it is the fastest way to do it."""
    outputs, inputs = weight.weight_OI.shape
    most = most_rows(kind_of(weight))
    if gpu.capability != (9, 0) or dtype not in FLOATS or not 0 < num_rows <= most:
        return False
    match weight:
        case Dense():
            return outputs % 8 == 0 and inputs % 8 == 0 and weight.weight_OI.is_contiguous()
        case _:
            return outputs % 8 == 0 and inputs % 16 == 0


def linear_dense(
    gpu: Gpu, x_TI: Tensor, weight: Dense, *, gated: bool = False, cut: HopperCut | None = None
) -> Tensor:
    """Return x @ W.T + b, `gated`: silu of its first half times the second, [T, O / 2].

    A given `cut` replaces the preferred one (benchmarks).
    """
    x = rows(x_TI)
    outputs, inputs = weight.weight_OI.shape
    check(
        gpu,
        "linear_hopper",
        x=(x, x_TI.dtype, (x.shape[0], inputs)),
        weight=(weight.weight_OI, x_TI.dtype, (outputs, inputs)),
    )
    cut = cut or _cut(gpu, "dense", x, outputs, gated=gated)
    out = torch.empty(x.shape[0], outputs // (1 + gated), dtype=x.dtype, device=x.device)
    _launch(
        gpu,
        "dense",
        cut,
        x,
        out,
        weight_view=lines(weight.weight_OI, cut.group_outputs),
        scales=None,
        row_scales=None,
        bias_O=weight.bias_O,
    )
    return out.view(*x_TI.shape[:-1], -1)


def linear_codes(
    gpu: Gpu,
    codes_TI: Tensor,
    row_scale_T: Tensor,
    weight: Fp8 | Int8,
    dtype: torch.dtype,
    *,
    gated: bool = False,
    cut: HopperCut | None = None,
) -> Tensor:
    """Return (codes @ W.T) * row scale * output scale + b as `dtype`, [T, O]; codes are of its type.

    `gated`: silu of its first half times the second, [T, O / 2].
    """
    outputs, inputs = weight.weight_OI.shape
    check(
        gpu,
        "linear_hopper",
        x=(codes_TI, weight.weight_OI.dtype, (codes_TI.shape[0], inputs)),
        row_scale=(row_scale_T, torch.float32, (codes_TI.shape[0],)),
        weight=(weight.weight_OI, weight.weight_OI.dtype, (outputs, inputs)),
        scale=(weight.scale_O, torch.float32, (outputs,)),
    )
    kind = kind_of(weight)
    cut = cut or _cut(gpu, kind, codes_TI, outputs, gated=gated)
    out = torch.empty(codes_TI.shape[0], outputs // (1 + gated), dtype=dtype, device=codes_TI.device)
    _launch(
        gpu,
        kind,
        cut,
        codes_TI,
        out,
        weight_view=lines(weight.weight_OI, cut.group_outputs),
        scales=weight.scale_O,
        row_scales=row_scale_T,
        bias_O=weight.bias_O,
    )
    return out


def constants(kind: Kind, cut: HopperCut, scalar: str) -> Constants:
    """Return what the kernel is compiled with."""
    return (
        ("SCALAR", scalar),
        ("WEIGHT", scalar if kind == "dense" else kind),
        ("ROWS", cut.rows),
        ("GROUPS", cut.groups),
        ("K_GROUPS", cut.k_groups),
        ("CLUSTER", cut.cluster),
        ("LINES", cut.lines),
        ("STAGES", cut.stages),
        ("SUM_SLABS", cut.sum_slabs),
        ("OUTPUTS", cut.group_outputs),
        ("GATED", int(cut.gated)),
    )


def kind_of(weight: Dense | Fp8 | Int8) -> Kind:
    """Return the kernel's name of a type of weight."""
    match weight:
        case Dense():
            return "dense"
        case Fp8():
            return "e4m3"
        case Int8():
            return "int8"


def _cut(gpu: Gpu, kind: Kind, x: Tensor, outputs: int, *, gated: bool = False) -> HopperCut:
    return hopper_cut(
        kind,
        num_rows=x.shape[0],
        outputs=outputs,
        inputs=x.shape[1],
        gated=gated,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
    )


def _launch(
    gpu: Gpu,
    kind: Kind,
    cut: HopperCut,
    x: Tensor,
    out: Tensor,
    *,
    weight_view: TensorView,
    scales: Tensor | None,
    row_scales: Tensor | None,
    bias_O: Tensor | None,
) -> None:
    outputs = out.shape[1]
    kernel = gpu.kernel(
        "linear_hopper.cu",
        "linear_hopper",
        constants(kind, cut, scalar_name("linear_hopper", out)),
        "MMPPPPiii",
        threads=cut.threads,
        shared_bytes=cut.shared_bytes,
    )
    kernel(
        gpu.stream(),
        (cut.num_blocks(outputs) * -(-x.shape[0] // cut.rows), 1),
        gpu.tensor_map(weight_view),
        gpu.tensor_map(lines(x, min(cut.rows, x.shape[0]))),
        *(0 if operand is None else operand.data_ptr() for operand in (scales, row_scales, bias_O)),
        out.data_ptr(),
        x.shape[0],
        outputs,
        -(-x.shape[1] // slab_inputs(kind, cut.lines)),
    )
