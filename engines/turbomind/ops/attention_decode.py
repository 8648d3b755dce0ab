"""Launches `kernels/attention_decode.cu`."""

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_bytes import num_scales, row_bytes
from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, scalar_name, token_stride
from engines.turbomind.ops.flash_shape import matrix_fault
from engines.turbomind.ops.kv_pool import KV_FORMATS, pool_operands, scale_addresses

_ROWS = 16  # tokens of a warp's share of a tile; kRows of the kernel
_MAX_SEQS = 512  # sequences of one launch: their prefix sums stand in shared memory
_RESERVED_BYTES = 1024  # shared memory the driver takes of each block

# Warps a block, stages a warp's ring, blocks an SM; the first that fits is taken. One large block an SM means
# fewer shares to sum, which counts while a step is short; two hide each other's pauses (kernels/LOG.md).
_FEW_SEGMENTS = 64  # (sequence, KV head) pairs
_FEW_SHAPES = ((8, 3, 1), (8, 2, 1))
_SHAPES = ((4, 2, 2), (4, 3, 1), (4, 2, 1), (2, 2, 1), (1, 2, 1))
# Codes take more instructions a byte: sixteen warps hide their pauses, in large blocks while segments are
# shared. Those have 128 registers a thread, enough for one column of 8 queries and results of 128 elements.
_SHARED_SEGMENTS = 256
_CODES_SHARED = ((8, 2, 2), (4, 2, 4))
_CODES = ((4, 2, 4), (8, 2, 2))
_CODES_WIDE = ((4, 4, 2),)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeShape:
    """How the kernel is cut for one head shape on one GPU."""

    warps: int
    stages: int
    blocks_per_sm: int
    shared_bytes: int


def shared_bytes(*, warps: int, stages: int, dim: int, group: int, format: KvFormat = "none") -> int:
    """Return the size of the kernel's `Layout`."""
    row = row_bytes(dim, format, dtype_bytes=2) + 16 + 2 * num_scales(format)
    ring = warps * stages * 2 * _ROWS * row
    sums = warps * group * (dim + 4) * 4
    columns = 2 * warps * -(-group // 8) * 8 * 4
    return ring + sums + columns + (_MAX_SEQS + 1 + warps + 1) * 4


@lru_cache(maxsize=256)
def decode_shape(
    *,
    segments: int,
    dim: int,
    group: int,
    bytes_per_block: int,
    bytes_per_sm: int,
    format: KvFormat = "none",
) -> DecodeShape:
    """Return the preferred shape that fits. Raises KernelError where none does.

    `segments` are the (sequence, KV head) pairs, `group` the query heads of a KV head.
    """
    for warps, stages, blocks in _preferred(segments, dim=dim, group=group, format=format):
        needed = shared_bytes(warps=warps, stages=stages, dim=dim, group=group, format=format)
        if needed <= bytes_per_block and blocks * (needed + _RESERVED_BYTES) <= bytes_per_sm:
            return DecodeShape(warps=warps, stages=stages, blocks_per_sm=blocks, shared_bytes=needed)
    raise KernelError(
        f"decode attention with heads of {dim}, {group} a KV head, needs more shared memory than the "
        f"{bytes_per_block} bytes of this GPU; use `engine=pytorch`"
    )


def _preferred(segments: int, *, dim: int, group: int, format: KvFormat) -> tuple[tuple[int, int, int], ...]:
    few = _FEW_SHAPES if segments <= _FEW_SEGMENTS else ()
    if format == "none":
        return (*few, *_SHAPES)
    narrow = _CODES_SHARED if segments <= _SHARED_SEGMENTS else _CODES
    return (*few, *(narrow if dim <= 128 and group <= 8 else ()), *_CODES_WIDE, *_SHAPES)


@cache
def num_workers(most: int, segments: int) -> int:
    """Return how many blocks share `segments` (sequence, KV head) pairs, at most `most`.

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


def attention_decode(
    gpu: Gpu,
    q_BND: Tensor,
    layer: KvLayer,
    pages_BP: Tensor,
    kv_lens_B: Tensor,
    *,
    scale: float,
    window: int | None,
    shape: DecodeShape | None = None,
    out_BND: Tensor | None = None,
) -> Tensor:
    """Return attention of one token a sequence over its pages, [B, N, D], into `out_BND` where one is given.

    A given `shape` replaces the preferred one (benchmarks). The scratch memory is shared by all launches of
    one `Gpu`, so they must run on one stream.
    """
    kernel, blocks, stride = planned(
        gpu,
        "attention_decode",
        (q_BND, pages_BP, kv_lens_B, *(x for pair in layer.pages for x in pair if x is not None)),
        lambda: _plan(gpu, q_BND, layer, pages_BP, kv_lens_B, window=window, shape=shape),
        layer.format,
        window,
        shape,
    )
    out = torch.empty(q_BND.shape, dtype=q_BND.dtype, device=q_BND.device) if out_BND is None else out_BND
    if not q_BND.shape[0]:
        return out
    num_kv_heads, dim = layer.keys_PKTD.shape[1], q_BND.shape[2]
    group = q_BND.shape[1] // num_kv_heads
    partials = gpu.scratch("attention_decode partials", 8 * blocks * (group * dim + -(-2 * group // 4) * 4))
    counters = gpu.scratch("attention_decode counters", blocks * 4)
    for first in range(0, q_BND.shape[0], _MAX_SEQS):
        part = slice(first, first + _MAX_SEQS)
        workers = num_workers(blocks, q_BND[part].shape[0] * num_kv_heads)
        kernel(
            gpu.stream(),
            (workers, 1),
            q_BND[part].data_ptr(),
            layer.keys_PKTD.data_ptr(),
            layer.values_PKTD.data_ptr(),
            *scale_addresses(layer),
            pages_BP[part].data_ptr(),
            kv_lens_B[part].data_ptr(),
            out[part].data_ptr(),
            partials.data_ptr(),
            counters.data_ptr(),
            q_BND[part].shape[0],
            pages_BP.stride(0),
            stride,
            scale * math.log2(math.e),
        )
    return out


def _plan(
    gpu: Gpu,
    q: Tensor,
    layer: KvLayer,
    pages: Tensor,
    kv_lens: Tensor,
    *,
    window: int | None,
    shape: DecodeShape | None,
) -> tuple[Kernel, int, int]:
    """Return the kernel for checked operands, the most blocks that run at once, the stride of queries."""
    num_kv_heads, group, dim = _check(gpu, q, layer, pages, kv_lens)
    shape = shape or decode_shape(
        segments=q.shape[0] * num_kv_heads,
        dim=dim,
        group=group,
        bytes_per_block=gpu.shared_bytes_per_block,
        bytes_per_sm=gpu.shared_bytes_per_sm,
        format=layer.format,
    )
    kernel = _kernel(gpu, q, layer, shape, group=group, window=window)
    return kernel, gpu.num_sms * shape.blocks_per_sm, token_stride("attention_decode", q)


def _kernel(
    gpu: Gpu, q: Tensor, layer: KvLayer, shape: DecodeShape, *, group: int, window: int | None
) -> Kernel:
    num_kv_heads, page_tokens = layer.keys_PKTD.shape[1:3]
    constants = decode_constants(
        shape,
        scalar=scalar_name("attention_decode", q),
        dim=q.shape[2],
        num_kv_heads=num_kv_heads,
        group=group,
        page_tokens=page_tokens,
        window=window,
        format=layer.format,
    )
    return gpu.kernel(
        "attention_decode.cu",
        "attention_decode",
        constants,
        "PPPPPPPPPPiiqf",
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )


def decode_constants(
    shape: DecodeShape,
    *,
    scalar: str,
    dim: int,
    num_kv_heads: int,
    group: int,
    page_tokens: int,
    window: int | None,
    format: KvFormat,
) -> Constants:
    """Return the kernel's -D."""
    return (
        ("SCALAR", scalar),
        ("DIM", dim),
        ("KV_HEADS", num_kv_heads),
        ("GROUP", group),
        ("PAGE_TOKENS", page_tokens),
        ("WINDOW", window or 0),
        ("KV_FORMAT", KV_FORMATS[format]),
        ("WARPS", shape.warps),
        ("STAGES", shape.stages),
        ("BLOCKS_PER_SM", shape.blocks_per_sm),
        ("MAX_SEQS", _MAX_SEQS),
    )


def _check(gpu: Gpu, q: Tensor, layer: KvLayer, pages: Tensor, kv_lens: Tensor) -> tuple[int, int, int]:
    num_seqs, num_heads, dim = q.shape
    num_kv_heads, page_tokens = layer.keys_PKTD.shape[1:3]
    check(
        gpu,
        "attention_decode",
        q=(q, q.dtype, (num_seqs, num_heads, dim)),
        **pool_operands(layer, dim=dim, dtype=q.dtype),
        pages=(pages, torch.int32, (num_seqs, pages.shape[-1])),
        kv_lens=(kv_lens, torch.int32, (num_seqs,)),
    )
    faults = matrix_fault(gpu, q.dtype)
    if num_heads % num_kv_heads:
        faults.append(f"{num_heads} query heads are no multiple of {num_kv_heads} KV heads")
    if dim % 16:
        faults.append(f"heads of {dim} elements are no multiple of 16")
    if page_tokens % _ROWS:
        faults.append(f"pages of {page_tokens} tokens are no multiple of {_ROWS}")
    if layer.format != "none" and row_bytes(dim, layer.format, dtype_bytes=2) % 32:
        faults.append(f"{layer.format} rows of heads of {dim} elements are no multiple of 32 bytes")
    if layer.format == "fp8" and gpu.capability < (8, 9):
        capability = ".".join(map(str, gpu.capability))
        faults.append(f"fp8 pages on compute capability {capability}, 8.9 is the first that reads them")
    if faults:
        raise KernelError(f"`attention_decode`: {'; '.join(faults)}")
    return num_kv_heads, num_heads // num_kv_heads, dim
