"""Launches `kernels/linear_int4.cu`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Int4
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check, rows, scalar_name
from engines.turbomind.tensor_map import TensorView

ROWS = (16, 32, 64)  # of x, as the kernel is compiled for
SLAB = 128  # inputs of a stage
_LINE = 128  # bytes: what a box takes of a row
_MOST_STAGES = 16
_ALIGNMENT = 1024  # of the ring; the launcher's memory may start below
_BARRIER_BYTES = 16  # full and empty, a stage
_SCALE_BYTES = 3  # a scale and a zero point


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4Cut:
    """Blocks of `groups` x `width` outputs; `cluster` blocks share the inputs of an output."""

    rows: int
    width: int  # outputs of a warpgroup
    groups: int  # warpgroups side by side
    k_groups: int  # that take turns at the stages of an output
    cluster: int
    stages: int
    share_groups: int  # groups of inputs that a block meets at most
    shared_bytes: int

    @property
    def outputs(self) -> int:
        """Outputs of a block."""
        return self.width * self.groups

    @property
    def threads(self) -> int:
        """Threads of a block: the warpgroups that multiply and the warp that copies."""
        return 128 * self.groups * self.k_groups + 32

    def num_blocks(self, outputs: int) -> int:
        """Return the size of the grid."""
        return -(-outputs // self.outputs) * self.cluster

    def label(self) -> str:
        """Return width, groups, turns and cluster, and the stages behind a slash."""
        return f"{self.width}x{self.groups}{self.k_groups}{self.cluster}/{self.stages}"

    def constants(self, scalar: str, group_size: int) -> Constants:
        """Return what the kernel is compiled with."""
        return (
            ("SCALAR", scalar),
            ("ROWS", self.rows),
            ("WIDTH", self.width),
            ("GROUPS", self.groups),
            ("K_GROUPS", self.k_groups),
            ("CLUSTER", self.cluster),
            ("STAGES", self.stages),
            ("GROUP_INPUTS", group_size),
            ("SHARE_GROUPS", self.share_groups),
        )


def make_cut(
    *,
    num_rows: int,
    width: int,
    groups: int,
    k_groups: int,
    cluster: int,
    inputs: int,
    group_size: int,
    shared_bytes: int,
) -> Int4Cut | None:
    """Return a cut with the deepest ring that fits, or None where the kernel cannot be cut so."""
    compiled_rows = next(rows for rows in ROWS if rows >= num_rows)
    outputs, slabs = width * groups, -(-(inputs // SLAB) // cluster)
    share_groups = slabs * SLAB // group_size + 2
    fixed = _ALIGNMENT + share_groups * outputs * _SCALE_BYTES + 16
    numbers = groups * k_groups * width * 2 * _LINE
    stage = compiled_rows * 2 * _LINE + outputs * SLAB // 2
    least = max(3, 2 * k_groups)
    stages = min(_MOST_STAGES, max(least, slabs + k_groups - 1))
    stages = min(stages, (shared_bytes - fixed - numbers) // (stage + _BARRIER_BYTES)) // k_groups * k_groups
    sums = k_groups * compiled_rows * (outputs + 8) * 4
    if stages < least or outputs // cluster % 4 or slabs < k_groups or sums > stages * stage + numbers:
        return None
    return Int4Cut(
        rows=compiled_rows,
        width=width,
        groups=groups,
        k_groups=k_groups,
        cluster=cluster,
        stages=stages,
        share_groups=share_groups,
        shared_bytes=fixed + numbers + stages * (stage + _BARRIER_BYTES),
    )


def linear_int4(gpu: Gpu, x_TI: Tensor, weight: Int4, *, cut: Int4Cut) -> Tensor:
    """Return x[:, perm] @ W.T + b."""
    x = rows(x_TI if weight.perm_I is None else x_TI.index_select(-1, weight.perm_I))
    groups, outputs = weight.scales_GO.shape
    inputs, bias = groups * weight.group_size, weight.bias_O
    tiles_x, tiles_y, _ = weight.tiles_XYB.shape
    check(
        gpu,
        "linear_int4",
        x=(x, x.dtype, (x.shape[0], inputs)),
        tiles=(weight.tiles_XYB, torch.uint8, (-(-outputs // 16), inputs // 64, 512)),
        scales=(weight.scales_GO, torch.float16, (groups, outputs)),
        zeros=(weight.zeros_GO, torch.uint8, (groups, outputs)),
        **({} if bias is None else {"bias": (bias, x.dtype, (outputs,))}),
    )
    if x.shape[0] > cut.rows:
        raise KernelError(f"`linear_int4` of {x.shape[0]} rows: cut for {cut.rows}")
    kernel = gpu.kernel(
        "linear_int4.cu",
        "linear_int4",
        cut.constants(scalar_name("linear_int4", x), weight.group_size),
        "MMPPPPiii",
        threads=cut.threads,
        shared_bytes=cut.shared_bytes,
    )
    out = torch.empty(x.shape[0], outputs, dtype=x.dtype, device=x.device)
    codes = TensorView(
        address=weight.tiles_XYB.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(_LINE // 2, 4 * tiles_y, tiles_x, 1),
        strides_bytes=(_LINE, 512 * tiles_y, 512 * tiles_y * tiles_x),
        box=(_LINE // 2, 8, cut.outputs // 16, 1),
    )
    activations = TensorView(
        address=x.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(inputs, x.shape[0]),
        strides_bytes=(inputs * 2,),
        box=(_LINE // 2, cut.rows),
    )
    kernel(
        gpu.stream(),
        (cut.num_blocks(outputs), 1),
        gpu.tensor_map(codes),
        gpu.tensor_map(activations),
        weight.scales_GO.data_ptr(),
        weight.zeros_GO.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        outputs,
        inputs // SLAB,
    )
    return out.view(*x_TI.shape[:-1], outputs)
