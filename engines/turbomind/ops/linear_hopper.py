"""Launches `kernels/linear_hopper.cu`."""

import torch
from torch import Tensor

from engines.ops import Dense, Fp8, Int4, Int8
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check, rows, scalar_name
from engines.turbomind.ops.hopper_cut import (
    OUTPUTS_A_GROUP,
    HopperCut,
    Kind,
    hopper_cut,
    most_rows,
    slab_inputs,
)
from engines.turbomind.tensor_map import TensorView

_LINE = 128  # bytes: what a box takes of a row
FLOATS = (torch.bfloat16, torch.float16)
_INT4_PASSES = 2  # over the codes; a third would take longer than the library with the weights unpacked


def fits(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Dense | Int4 | Fp8 | Int8) -> bool:
    """Return whether the kernel can take this product; not whether it is the fastest way to do it."""
    outputs, inputs = sizes(weight)
    most = most_rows(kind_of(weight)) * (_INT4_PASSES if isinstance(weight, Int4) else 1)
    if gpu.capability != (9, 0) or dtype not in FLOATS or not 0 < num_rows <= most:
        return False
    match weight:
        case Dense():
            return outputs % 8 == 0 and inputs % 8 == 0 and weight.weight_OI.is_contiguous()
        case Int4():
            size = weight.group_size
            grouped = size % 128 == 0 or (128 % size == 0 and size % 32 == 0)
            return outputs % 16 == 0 and inputs % 128 == 0 and grouped
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
        weight_view=_matrix(weight.weight_OI, cut.group_outputs),
        scales=None,
        zeros=None,
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
        weight_view=_matrix(weight.weight_OI, cut.group_outputs),
        scales=weight.scale_O,
        zeros=row_scale_T,
        bias_O=weight.bias_O,
    )
    return out


def linear_int4(gpu: Gpu, x_TI: Tensor, weight: Int4, *, cut: HopperCut | None = None) -> Tensor:
    """Return x[:, perm] @ W.T + b, in passes over the codes where there are more rows than a cut takes."""
    x = rows(x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I))
    outputs, inputs = sizes(weight)
    tiles_x, tiles_y, _ = weight.tiles_XYB.shape
    check(
        gpu,
        "linear_hopper",
        x=(x, x_TI.dtype, (x.shape[0], inputs)),
        tiles=(weight.tiles_XYB, torch.uint8, (-(-outputs // 16), inputs // 64, 512)),
        scales=(weight.scales_GO, torch.float16, (inputs // weight.group_size, outputs)),
        zeros=(weight.zeros_GO, torch.uint8, (inputs // weight.group_size, outputs)),
    )
    out = torch.empty(x.shape[0], outputs, dtype=x.dtype, device=x.device)
    most = most_rows("nibble") if cut is None else cut.rows
    for first in range(0, x.shape[0], most):
        x_part, out_part = x[first : first + most], out[first : first + most]
        part_cut = cut or _cut(gpu, "nibble", x_part, outputs, group_size=weight.group_size)
        view = TensorView(
            address=weight.tiles_XYB.data_ptr(),
            dtype=torch.bfloat16,
            sizes=(_LINE // 2, 4 * tiles_y, tiles_x, 1),
            strides_bytes=(_LINE, 512 * tiles_y, 512 * tiles_y * tiles_x),
            box=(_LINE // 2, 4 * part_cut.lines, OUTPUTS_A_GROUP // 16 * part_cut.groups, 1),
        )
        _launch(
            gpu,
            "nibble",
            part_cut,
            x_part,
            out_part,
            weight_view=view,
            scales=weight.scales_GO,
            zeros=weight.zeros_GO,
            bias_O=weight.bias_O,
            group_size=weight.group_size,
        )
    return out.view(*x_TI.shape[:-1], outputs)


def constants(kind: Kind, cut: HopperCut, scalar: str, group_size: int) -> Constants:
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
        ("GROUP_INPUTS", group_size),
        ("SHARE_GROUPS", cut.share_groups),
        ("SUM_SLABS", cut.sum_slabs),
        ("OUTPUTS", cut.group_outputs),
        ("GATED", int(cut.gated)),
    )


def kind_of(weight: Dense | Int4 | Fp8 | Int8) -> Kind:
    """Return the kernel's name of a type of weight."""
    match weight:
        case Dense():
            return "dense"
        case Int4():
            return "nibble"
        case Fp8():
            return "e4m3"
        case Int8():
            return "int8"


def sizes(weight: Dense | Int4 | Fp8 | Int8) -> tuple[int, int]:
    """Return outputs and inputs."""
    if isinstance(weight, Int4):
        groups, outputs = weight.scales_GO.shape
        return outputs, groups * weight.group_size
    return weight.weight_OI.shape[0], weight.weight_OI.shape[1]


def _cut(
    gpu: Gpu, kind: Kind, x: Tensor, outputs: int, *, group_size: int = 0, gated: bool = False
) -> HopperCut:
    return hopper_cut(
        kind,
        num_rows=x.shape[0],
        outputs=outputs,
        inputs=x.shape[1],
        group_size=group_size,
        gated=gated,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
    )


def _matrix(matrix: Tensor, box_rows: int) -> TensorView:
    """Return rows of 128-byte lines; the copy engine takes any elements for 16-bit ones."""
    num_rows, bytes_a_row = matrix.shape[0], matrix.shape[1] * matrix.element_size()
    return TensorView(
        address=matrix.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(bytes_a_row // 2, num_rows),
        strides_bytes=(bytes_a_row,),
        box=(_LINE // 2, box_rows),
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
    zeros: Tensor | None,
    bias_O: Tensor | None,
    group_size: int = 0,
) -> None:
    outputs = out.shape[1]
    kernel = gpu.kernel(
        "linear_hopper.cu",
        "linear_hopper",
        constants(kind, cut, scalar_name("linear_hopper", out), group_size),
        "MMPPPPiii",
        threads=cut.threads,
        shared_bytes=cut.shared_bytes,
    )
    kernel(
        gpu.stream(),
        (cut.num_blocks(outputs) * -(-x.shape[0] // cut.rows), 1),
        gpu.tensor_map(weight_view),
        gpu.tensor_map(_matrix(x, min(cut.rows, x.shape[0]))),
        *(0 if operand is None else operand.data_ptr() for operand in (scales, zeros, bias_O)),
        out.data_ptr(),
        x.shape[0],
        outputs,
        -(-x.shape[1] // slab_inputs(kind, cut.lines)),
    )
