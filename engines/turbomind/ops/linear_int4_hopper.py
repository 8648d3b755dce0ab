"""Launches `kernels/linear_int4_hopper.cu`."""

import torch
from torch import Tensor

from engines.ops import Int4
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import scalar_name
from engines.turbomind.ops import folded_norm
from engines.turbomind.ops.folded_norm import Added, Normed
from engines.turbomind.ops.int4_cut import SLAB, Int4Cut, int4_cut
from engines.turbomind.ops.int4_operands import TILE_OUTPUTS, check_int4, has_whole_slabs, permuted_rows
from engines.turbomind.tensor_map import TensorView, lines

MOST_ROWS = 512  # blocks of 128 rows share the codes; more take less time with the codes unpacked
_LINE = 64  # elements of 16 bits in a row of a box


def fits(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Int4, *, gated: bool = False, kept_bytes: int = 0
) -> bool:
    """Return whether the kernel takes this product, and applies gates where `gated`.

    `kept_bytes` of shared memory are for a norm (`folded_norm.py`).
    """
    outputs = weight.scales_GO.shape[1]
    return (
        gpu.capability == (9, 0)
        and 0 < num_rows <= MOST_ROWS
        and dtype in (torch.bfloat16, torch.float16)
        and outputs % (TILE_OUTPUTS * (2 if gated else 1)) == 0
        and has_whole_slabs(weight, SLAB)
        and _cut(gpu, num_rows, weight, gated=gated, kept_bytes=kept_bytes) is not None
    )


def linear_int4_hopper(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Int4,
    *,
    gated: bool = False,
    norm: Added | Normed | None = None,
    cut: Int4Cut | None = None,
) -> Tensor:
    """Return y = x[:, perm] @ W.T + b, or silu(first half of y) * second half where `gated`.

    With a norm y is scaled before the bias, or added to a residual and weighted (`folded_norm.py`). A given
    `cut` replaces the preferred one (benchmarks).
    """
    x = permuted_rows(x_TI, weight)
    outputs, inputs, bias = weight.scales_GO.shape[1], x.shape[1], weight.bias_O
    check_int4(gpu, "linear_int4_hopper", x, weight)
    kept = folded_norm.kept_bytes_of(norm)
    cut = cut or _cut(gpu, x.shape[0], weight, gated=gated, kept_bytes=kept)
    assert cut is not None and cut.gated == gated, "what fits has a cut"
    parts = folded_norm.parts_of(cut, outputs)
    folded_norm.check_norm(gpu, "linear_int4_hopper", norm, parts, outputs=outputs, num_rows=x.shape[0])
    kernel = gpu.kernel(
        "linear_int4_hopper.cu",
        "linear_int4_hopper",
        cut.constants(scalar_name("linear_int4_hopper", x), weight.group_size) + folded_norm.constants(norm),
        "MMPPPPiii" + folded_norm.letters(norm),
        threads=cut.threads,
        shared_bytes=cut.shared_bytes + kept,
    )
    written = outputs // 2 if gated else outputs
    out = torch.empty(x.shape[0], written, dtype=x.dtype, device=x.device)
    kernel(
        gpu.stream(),
        (cut.num_blocks(x.shape[0], written), 1),
        gpu.tensor_map(_codes(weight.tiles_XYB, cut)),
        gpu.tensor_map(lines(x, min(cut.rows, x.shape[0]))),
        weight.scales_GO.data_ptr(),
        weight.zeros_GO.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        written,
        inputs // SLAB,
        *folded_norm.arguments(norm),
    )
    return out.view(*x_TI.shape[:-1], written)


def squares_parts(gpu: Gpu, num_rows: int, weight: Int4) -> int | None:
    """Return in how many parts a product that is added to a residual leaves squares, None where it cannot."""
    cut = _cut(gpu, num_rows, weight, gated=False, kept_bytes=folded_norm.kept_bytes(None))
    return None if cut is None else folded_norm.parts_of(cut, weight.scales_GO.shape[1])


def _codes(tiles_XYB: Tensor, cut: Int4Cut) -> TensorView:
    """Return the tiles as lines of 128 bytes, of which a slab has eight a tile."""
    tiles_x, tiles_y, _ = tiles_XYB.shape
    return TensorView(
        address=tiles_XYB.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(_LINE, 4 * tiles_y, tiles_x, 1),
        strides_bytes=(128, 512 * tiles_y, 512 * tiles_y * tiles_x),
        box=(_LINE, 8, cut.box_tiles, 1),
    )


def _cut(gpu: Gpu, num_rows: int, weight: Int4, *, gated: bool, kept_bytes: int = 0) -> Int4Cut | None:
    groups, outputs = weight.scales_GO.shape
    return int4_cut(
        num_rows=num_rows,
        outputs=outputs,
        inputs=groups * weight.group_size,
        group_size=weight.group_size,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block - kept_bytes,
        gated=gated,
    )
