"""How decode attention is cut: warps, stages and blocks by head shape and format; blocks by the work."""

from dataclasses import dataclass
from functools import cache, lru_cache

from engines.errors import KernelError
from engines.memory.kv_bytes import num_scales, row_bytes
from engines.options import KvFormat

ROWS = 16  # tokens of a warp's share of a tile; kRows of the kernel
MAX_SEQS = 512  # sequences of one launch: their prefix sums stand in shared memory
_RESERVED_BYTES = 1024  # shared memory the driver takes of each block

# Warps a block, stages a warp's ring, blocks an SM; the first that fits is taken. One large block an SM means
# fewer shares to sum, which counts while a step is short; two hide each other's pauses (kernels/LOG.md).
_FEW_SEGMENTS = 64  # (sequence, KV head) pairs
_FEW_SHAPES = ((8, 3, 1), (8, 2, 1))
# Pairs of blocks sum a segment in each other's shared memory. Larger clusters do not all find a place at
# once, and pairs lose where one for each segment leaves most of the GPU idle (kernels/LOG.md).
_PAIR = 2
_LEAST_BUSY = 0.2  # segments a multiprocessor
# Two blocks an SM form pairs for whole segments alone, of codes of 8 bits, where these keep it busy.
_LEAST_PAIRS = 0.7  # of as many as run at once
_SHAPES = ((4, 2, 2), (4, 3, 1), (4, 2, 1), (2, 2, 1), (1, 2, 1))
# Codes take more instructions a byte: sixteen warps hide their pauses, in large blocks while segments are
# shared. Those have 128 registers a thread, enough for one column of 8 queries and results of 128 elements.
_SHARED_SEGMENTS = 256
_CODES_SHARED = ((8, 2, 2), (4, 2, 4))
_CODES = ((4, 2, 4), (8, 2, 2))
_CODES_WIDE = ((4, 4, 2),)
# Twelve warps of bf12's larger rows fit; their products have more registers than those of sixteen.
_BF12 = ((6, 2, 2), (4, 3, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeShape:
    """How the kernel is cut for one head shape on one GPU."""

    warps: int
    stages: int
    blocks_per_sm: int
    shared_bytes: int
    cluster: int = 1  # blocks that work as one


def shared_bytes(
    *, warps: int, stages: int, dim: int, group: int, format: KvFormat = "none", cluster: int = 1
) -> int:
    """Return the size of the kernel's `Layout`, and of what the blocks of a cluster show each other."""
    row = row_bytes(dim, format, dtype_bytes=2)
    pitch = row if row % 32 else row + 16
    ring = warps * stages * 2 * ROWS * (pitch + 2 * num_scales(format))
    sums = warps * group * (dim + 4) * 4
    columns = 2 * warps * -(-group // 8) * 8 * 4
    barrier = 8 if cluster == 2 else 0
    layout = -(-(ring + sums + columns + barrier + (MAX_SEQS + 1 + warps + 1) * 4) // 16) * 16
    return layout + (2 * group * (dim + 4) * 4 if cluster > 1 else 0)


@lru_cache(maxsize=256)
def decode_shape(
    *,
    segments: int,
    dim: int,
    group: int,
    bytes_per_block: int,
    bytes_per_sm: int,
    format: KvFormat = "none",
    cluster_sms: int = 0,
) -> DecodeShape:
    """Return the preferred shape that fits. Raises KernelError where none does.

    `segments` are the (sequence, KV head) pairs, `group` the query heads of a KV head, `cluster_sms` the
    multiprocessors of a GPU whose blocks may form clusters.
    """
    for cut in _preferred(segments, dim=dim, group=group, format=format):
        warps, stages, blocks = cut
        cluster = _PAIR if _forms_pairs(segments, cut, format=format, cluster_sms=cluster_sms) else 1
        needed = shared_bytes(
            warps=warps, stages=stages, dim=dim, group=group, format=format, cluster=cluster
        )
        if needed <= bytes_per_block and blocks * (needed + _RESERVED_BYTES) <= bytes_per_sm:
            return DecodeShape(
                warps=warps, stages=stages, blocks_per_sm=blocks, shared_bytes=needed, cluster=cluster
            )
    raise KernelError(
        f"decode attention with heads of {dim}, {group} a KV head, needs more shared memory than the "
        f"{bytes_per_block} bytes of this GPU; use `engine=pytorch`"
    )


def _forms_pairs(segments: int, cut: tuple[int, int, int], *, format: KvFormat, cluster_sms: int) -> bool:
    blocks = cut[2]
    most = blocks * cluster_sms // _PAIR
    if blocks == 1:
        return 0 < _LEAST_BUSY * cluster_sms <= segments <= min(_FEW_SEGMENTS, most)
    return format in ("int8", "fp8") and cut == _CODES_SHARED[0] and _LEAST_PAIRS * most <= segments <= most


def _preferred(segments: int, *, dim: int, group: int, format: KvFormat) -> tuple[tuple[int, int, int], ...]:
    few = _FEW_SHAPES if segments <= _FEW_SEGMENTS else ()
    if format == "none":
        return (*few, *_SHAPES)
    if format == "bf12":
        return (*few, *_BF12, *_SHAPES)
    narrow = _CODES_SHARED if segments <= _SHARED_SEGMENTS else _CODES
    return (*few, *(narrow if dim <= 128 and group <= 8 else ()), *_CODES_WIDE, *_SHAPES)


@cache
def num_workers(most: int, segments: int) -> int:
    """Return how many blocks, or clusters, share `segments` (sequence, KV head) pairs, at most `most`.

    A number that divides the segments, or is divided by them, cuts sequences of one length at their ends,
    where there is nothing to sum; it is taken where it leaves at most a tenth of the GPU without work.
    """
    if segments <= 0:
        return most
    if segments <= most:
        even = most // segments * segments
    else:
        even = max(number for number in range(1, most + 1) if segments % number == 0)
    return even if even >= 0.9 * most else most
