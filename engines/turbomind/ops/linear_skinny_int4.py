"""Launches `kernels/linear_skinny_int4.cu`."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Int4
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import scalar_name
from engines.turbomind.ops import folded_norm
from engines.turbomind.ops.flash_shape import matrix_fault
from engines.turbomind.ops.folded_norm import Added, Normed
from engines.turbomind.ops.int4_operands import TILE_OUTPUTS, check_int4, has_whole_slabs, permuted_rows

SLAB = 128  # inputs of a stage
ROWS = (1, 8)  # of x, as the kernel is compiled for
_TILE_BYTES = 1024  # of a slab of one tile of outputs
_PIECE_BYTES = 48  # scales and zero points of 16 outputs
_LANES = 32  # each fetches at most one piece of scales or zero points
_WARPS = 16  # so that one block fills an SM: where two fit, some SMs get two of a kernel's and others none
_MOST_TILES = 4
_MOST_STAGES = 3  # deeper rings ask for more before x comes: kernels/LOG.md
_LEAST_STAGES = 2
_RING_TILES = 2  # of a block, up to which x comes with the codes: kernels/LOG.md
_ROW_LANES = (2, 4, 8, 16, 32)  # of a warp
_MOST_PARTS = 128  # of a row's squares: four a lane
_SCALES_BYTES = 4 * ROWS[-1]  # of rows that are normed
_EARLY_BYTES = 32 * 1024  # but one stage at least: x waits behind what an SM has asked for before it


@dataclass(frozen=True, kw_only=True, slots=True)
class SkinnyInt4Shape:
    """How a product is cut: blocks of `block_tiles` x 16 outputs, in passes of `tiles` x 16."""

    rows: int
    block_tiles: int
    tiles: int
    passes: int
    warps: int
    stages: int
    early: int  # of them, asked for before x
    cluster: int  # blocks that share the inputs of an output
    share_slabs: int  # that one of them takes
    x_in_ring: bool  # a slab of x with its codes, instead of all before
    shared_bytes: int

    def parts(self, outputs: int) -> int | None:
        """Return in how many parts a product leaves the squares of a row, or None where it cannot."""
        lanes = 4 * self.tiles // self.cluster  # that write a row
        if self.passes > 1 or self.block_tiles != self.tiles or lanes not in _ROW_LANES:
            return None
        whole = outputs % (TILE_OUTPUTS * self.tiles) == 0
        return folded_norm.whole_parts(outputs, own=4 * lanes) if whole else None

    def constants(self, scalar: str, group_size: int) -> Constants:
        """Return what the kernel is compiled with."""
        return (
            ("SCALAR", scalar),
            ("ROWS", self.rows),
            ("TILES", self.tiles),
            ("PASSES", self.passes),
            ("WARPS", self.warps),
            ("STAGES", self.stages),
            ("EARLY", self.early),
            ("CLUSTER", self.cluster),
            ("SHARE_SLABS", self.share_slabs),
            ("GROUP_INPUTS", group_size),
            ("X_IN_RING", int(self.x_in_ring)),
        )


def make_shape(
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    group_size: int,
    num_sms: int,
    shared_bytes: int,
    tiles: int,
    cluster: int = 1,
    warps: int = _WARPS,
    x_in_ring: bool = False,
) -> SkinnyInt4Shape | None:
    """Return one wave of blocks with the deepest ring that fits, or None where none does."""
    compiled_rows = next(rows for rows in ROWS if rows >= num_rows)
    block_tiles = -(-(outputs // TILE_OUTPUTS) * cluster // num_sms)
    passes = -(-block_tiles // tiles)
    slabs = -(-(inputs // SLAB) // cluster)
    sums = min(2, passes) * warps * compiled_rows * (16 * tiles + 4) * 4
    fixed = sums + 16 + _SCALES_BYTES + (0 if x_in_ring else compiled_rows * (256 * slabs + 16))
    pieces = max(1, SLAB // group_size)
    stage = tiles * (_TILE_BYTES + _PIECE_BYTES * pieces) + (compiled_rows * 256 if x_in_ring else 0)
    own_stages = -(-slabs // warps) * passes
    stages = min(_MOST_STAGES, max(_LEAST_STAGES, own_stages + 1), (shared_bytes - fixed) // (warps * stage))
    if x_in_ring and (compiled_rows == 1 or passes > 1):
        return None
    if stages < _LEAST_STAGES or 16 * tiles // cluster % 4 or 3 * pieces * tiles > _LANES:
        return None
    return SkinnyInt4Shape(
        rows=compiled_rows,
        block_tiles=block_tiles,
        tiles=tiles,
        passes=passes,
        warps=warps,
        stages=stages,
        early=1 if x_in_ring else max(1, min(stages - 1, _EARLY_BYTES // (warps * stage))),
        cluster=cluster,
        share_slabs=slabs,
        x_in_ring=x_in_ring,
        shared_bytes=fixed + warps * stages * stage,
    )


@lru_cache(maxsize=256)
def skinny_int4_shape(
    *,
    num_rows: int,
    outputs: int,
    inputs: int,
    group_size: int,
    num_sms: int,
    bytes_per_block: int,
    clusters: bool,
) -> SkinnyInt4Shape | None:
    """Return the preferred cut, the fewest tiles left empty.

    None where shared memory does not hold the rows and a ring.
    """
    block_tiles = -(-(outputs // TILE_OUTPUTS) // num_sms)
    by_waste = sorted(range(1, _MOST_TILES + 1), key=lambda tiles: (-(-block_tiles // tiles) * tiles, -tiles))
    cuts = [(tiles, cluster, False) for cluster in ((1, 2) if clusters else (1,)) for tiles in by_waste]
    if block_tiles <= _RING_TILES:
        cuts.insert(0, (block_tiles, 1, True))
    for tiles, cluster, x_in_ring in cuts:
        shape = make_shape(
            num_rows=num_rows,
            outputs=outputs,
            inputs=inputs,
            group_size=group_size,
            num_sms=num_sms,
            shared_bytes=bytes_per_block,
            tiles=tiles,
            cluster=cluster,
            x_in_ring=x_in_ring,
        )
        if shape is not None:
            return shape
    return None


def fits(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Int4, *, parts: int = 0) -> bool:
    """Return whether the kernel takes this product; `parts`: of the squares that its rows are normed by."""
    outputs = weight.scales_GO.shape[1]
    return (
        0 < num_rows <= ROWS[-1]
        and outputs % TILE_OUTPUTS == 0
        and has_whole_slabs(weight, SLAB)
        and dtype in (torch.bfloat16, torch.float16)
        and not matrix_fault(gpu, dtype)
        and parts <= _MOST_PARTS
        and _shape(gpu, num_rows, weight) is not None
    )


def linear_skinny_int4(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Int4,
    *,
    norm: Added | Normed | None = None,
    shape: SkinnyInt4Shape | None = None,
) -> Tensor:
    """Return x[:, perm] @ W.T + b for few rows. A given `shape` replaces the preferred one (benchmarks).

    With a norm the product is scaled before the bias, or added to a residual and weighted (`folded_norm.py`).
    """
    x = permuted_rows(x_TI, weight)
    outputs, inputs, bias = weight.scales_GO.shape[1], x.shape[1], weight.bias_O
    check_int4(gpu, "linear_skinny_int4", x, weight)
    if not fits(gpu, x.shape[0], x.dtype, weight):
        raise KernelError(
            f"`linear_skinny_int4` of {x.shape[0]} rows, {inputs} inputs in groups of {weight.group_size}, "
            f"{outputs} outputs: at most {ROWS[-1]} rows, which shared memory must hold, inputs a multiple "
            f"of {SLAB}, outputs of {TILE_OUTPUTS}, groups of 32, 64 or a multiple of {SLAB}"
        )
    shape = shape or _shape(gpu, x.shape[0], weight)
    assert shape is not None, "what fits has a shape"
    parts = shape.parts(outputs)
    folded_norm.check_norm(gpu, "linear_skinny_int4", norm, parts, outputs=outputs, num_rows=x.shape[0])
    kernel = gpu.kernel(
        "linear_skinny_int4.cu",
        "linear_skinny_int4",
        shape.constants(scalar_name("linear_skinny_int4", x), weight.group_size)
        + folded_norm.constants(norm),
        "PPPPPPiiii" + folded_norm.letters(norm),
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )
    out = torch.empty(x.shape[0], outputs, dtype=x.dtype, device=x.device)
    kernel(
        gpu.stream(),
        (-(-outputs // (TILE_OUTPUTS * shape.block_tiles)) * shape.cluster, 1),
        x.data_ptr(),
        weight.tiles_XYB.data_ptr(),
        weight.scales_GO.data_ptr(),
        weight.zeros_GO.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        outputs,
        inputs // SLAB,
        shape.block_tiles,
        *folded_norm.arguments(norm),
    )
    return out.view(*x_TI.shape[:-1], outputs)


def squares_parts(gpu: Gpu, num_rows: int, weight: Int4) -> int | None:
    """Return in how many parts a product that is added to a residual leaves squares, None where it cannot."""
    shape = _shape(gpu, num_rows, weight)
    return None if shape is None else shape.parts(weight.scales_GO.shape[1])


def _shape(gpu: Gpu, num_rows: int, weight: Int4) -> SkinnyInt4Shape | None:
    groups, outputs = weight.scales_GO.shape
    return skinny_int4_shape(
        num_rows=num_rows,
        outputs=outputs,
        inputs=groups * weight.group_size,
        group_size=weight.group_size,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
        clusters=gpu.capability == (9, 0),
    )
