"""Launches `kernels/linear_columns.cu`: linear layers of a thousand rows with what follows in a vision tower.

Legend: T rows, I inputs, O outputs.
"""

import torch
from torch import Tensor

from engines.ops import Dense
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, rows, scalar_name
from engines.turbomind.ops.after_product import ENUMERATORS, After
from engines.turbomind.ops.columns_choice import columns_choice
from engines.turbomind.ops.columns_cut import SLAB, ColumnsCut
from engines.turbomind.ops.linear_rows import fits
from engines.turbomind.tensor_map import lines


def cut_of(gpu: Gpu, x_TI: Tensor, weight: Dense, after: After) -> ColumnsCut | None:
    """Return how the kernel cuts a product and what follows it, or None where another way takes less time."""
    if not fits(gpu, x_TI, weight):
        return None
    outputs, inputs = weight.weight_OI.shape
    return columns_choice(
        x_TI.numel() // inputs,
        outputs,
        inputs,
        after,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
    )


def linear_columns(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Dense,
    cut: ColumnsCut,
    *,
    after: After = "nothing",
    residual_TO: Tensor | None = None,
    scale_O: Tensor | None = None,
) -> Tensor:
    """Return y = x @ W.T + b, a GELU of it, or residual + y * scale; y is rounded before what follows."""
    x = rows(x_TI)
    outputs, inputs = weight.weight_OI.shape
    residual = None if residual_TO is None else rows(residual_TO)
    assert (after == "add") == (residual is not None), "a residual is what `add` adds to"
    optional = {"bias": weight.bias_O, "scale": scale_O, "residual": residual}
    present = {name: operand for name, operand in optional.items() if operand is not None}
    kernel = planned(
        gpu,
        "linear_columns",
        (x, weight.weight_OI, *present.values()),
        lambda: _plan(gpu, x, weight.weight_OI, present, after, cut),
        after,
        weight.bias_O is None,
        cut,
    )
    out = torch.empty(len(x), outputs, dtype=x.dtype, device=x.device)
    out_map = gpu.tensor_map(lines(out, cut.rows // 2))
    kernel(
        gpu.stream(),
        (cut.num_blocks(len(x), outputs), 1),
        gpu.tensor_map(lines(weight.weight_OI, cut.outputs)),
        gpu.tensor_map(lines(x, cut.rows)),
        out_map if residual is None else gpu.tensor_map(lines(residual, cut.rows)),
        out_map,
        *(0 if operand is None else operand.data_ptr() for operand in (weight.bias_O, scale_O)),
        len(x),
        outputs,
        -(-inputs // SLAB),
    )
    return out.view(*x_TI.shape[:-1], outputs)


def constants(scalar: str, cut: ColumnsCut, after: After) -> Constants:
    """Return what the kernel is compiled with."""
    return (
        ("SCALAR", scalar),
        ("ROWS", cut.rows),
        ("GROUPS", cut.groups),
        ("CLUSTER", cut.cluster),
        ("STAGES", cut.stages),
        ("AFTER", ENUMERATORS[after]),
    )


def _plan(
    gpu: Gpu, x: Tensor, weight_OI: Tensor, present: dict[str, Tensor], after: After, cut: ColumnsCut
) -> Kernel:
    """Return the kernel for checked operands."""
    outputs, inputs = weight_OI.shape
    shapes = {"bias": (outputs,), "scale": (outputs,), "residual": (len(x), outputs)}
    check(
        gpu,
        "linear_columns",
        x=(x, x.dtype, (len(x), inputs)),
        weight=(weight_OI, x.dtype, (outputs, inputs)),
        **{name: (operand, x.dtype, shapes[name]) for name, operand in present.items()},
    )
    return gpu.kernel(
        "linear_columns.cu",
        "linear_columns",
        constants(scalar_name("linear_columns", x), cut, after),
        "MMMMPPiii",
        threads=cut.threads,
        shared_bytes=cut.shared_bytes,
    )
