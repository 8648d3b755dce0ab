"""Launches `kernels/attention_decode.cu`; the newest tokens are in the pages, or stored by the kernel."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_bytes import row_bytes
from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, scalar_name, token_stride
from engines.turbomind.ops.decode_shape import MAX_SEQS, ROWS, DecodeShape, decode_shape, num_workers
from engines.turbomind.ops.flash_shape import matrix_fault
from engines.turbomind.ops.kv_pool import KV_FORMATS, bf12_faults, pool_operands, scale_addresses
from engines.turbomind.ops.rope import check_pages, check_rotation

_ARGUMENTS = "PPPPPPPPPPPPPPPiiqqqf"
_MAX_DIM = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTokens:
    """What a step brings, one token a sequence: keys before their rotation, values, angles, slots."""

    k_BKD: Tensor
    v_BKD: Tensor
    cos_BR: Tensor  # fp32
    sin_BR: Tensor
    slots_B: Tensor  # int64; negative: not stored

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All of it, in the order of the kernel's arguments."""
        return self.k_BKD, self.v_BKD, self.cos_BR, self.sin_BR, self.slots_B


def takes_new_tokens(format: KvFormat, *, dim: int, num_pairs: int) -> bool:
    """Return whether `attention_decode` rotates and stores in passing; else `rope_store_kv` does it before.

    A lane of the kernel holds whole units of a head, of 8, with codes of 8 bits 16 or with int4 32 elements.
    """
    unit = {"none": 8, "bf12": 8, "int8": 16, "fp8": 16, "int4": 32}[format]
    return 0 < num_pairs <= dim // 2 and num_pairs % unit == 0


def attention_decode(
    gpu: Gpu,
    q_BND: Tensor,
    layer: KvLayer,
    pages_BP: Tensor,
    kv_lens_B: Tensor,
    *,
    scale: float,
    window: int | None,
    new: NewTokens | None = None,
    in_order: bool = False,
    shape: DecodeShape | None = None,
    out_BND: Tensor | None = None,
) -> Tensor:
    """Return attention of one token a sequence over its pages, [B, N, D], into `out_BND` where one is given.

    With `new` tokens, which `takes_new_tokens` allows, the queries come unrotated and the newest keys and
    values are not in the pages: the kernel rotates, stores and attends, to the bit what `rope_store_kv` and
    this would do. Without, the kernel ahead may have stored the last token of a sequence, which is read late;
    `in_order` is for more tokens than that. A given `shape` replaces the preferred one (benchmarks). The
    scratch memory is shared by all launches of one `Gpu`, so they must run on one stream.
    """
    brought = () if new is None else new.tensors
    pools = [x for pair in layer.pages for x in pair if x is not None]
    kernel, most, cluster, strides = planned(
        gpu,
        "attention_decode",
        (q_BND, *brought, pages_BP, kv_lens_B, *pools),
        lambda: _plan(
            gpu, q_BND, new, layer, pages_BP, kv_lens_B, window=window, in_order=in_order, shape=shape
        ),
        layer.format,
        window,
        in_order,
        shape,
    )
    out = torch.empty(q_BND.shape, dtype=q_BND.dtype, device=q_BND.device) if out_BND is None else out_BND
    if not q_BND.shape[0]:
        return out
    num_kv_heads, dim = layer.keys_PKTD.shape[1], q_BND.shape[2]
    group = q_BND.shape[1] // num_kv_heads
    blocks = most * cluster
    partials = gpu.scratch("attention_decode partials", 8 * blocks * (group * dim + -(-2 * group // 4) * 4))
    counters = gpu.scratch("attention_decode counters", 4 * blocks)
    for first in range(0, q_BND.shape[0], MAX_SEQS):
        part = slice(first, first + MAX_SEQS)
        workers = num_workers(most, q_BND[part].shape[0] * num_kv_heads)
        kernel(
            gpu.stream(),
            (workers * cluster, 1),
            q_BND[part].data_ptr(),
            *((x[part].data_ptr() for x in brought) if brought else (0,) * 5),
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
            *strides,
            scale * math.log2(math.e),
        )
    return out


def _plan(
    gpu: Gpu,
    q: Tensor,
    new: NewTokens | None,
    layer: KvLayer,
    pages: Tensor,
    kv_lens: Tensor,
    *,
    window: int | None,
    in_order: bool,
    shape: DecodeShape | None,
) -> tuple[Kernel, int, int, tuple[int, int, int]]:
    """Return the kernel for checked operands, workers at once, blocks of each, the strides of q, k and v."""
    num_kv_heads, group, dim = _check(gpu, q, layer, pages, kv_lens)
    shape = shape or decode_shape(
        segments=q.shape[0] * num_kv_heads,
        dim=dim,
        group=group,
        bytes_per_block=gpu.shared_bytes_per_block,
        bytes_per_sm=gpu.shared_bytes_per_sm,
        format=layer.format,
        cluster_sms=gpu.num_sms if gpu.capability >= (9, 0) else 0,
    )
    num_pairs, new_strides = (0, (0, 0)) if new is None else _check_new(gpu, q, new, layer)
    constants = decode_constants(
        shape,
        scalar=scalar_name("attention_decode", q),
        dim=dim,
        num_pairs=num_pairs,
        num_kv_heads=num_kv_heads,
        group=group,
        page_tokens=layer.page_tokens,
        window=window,
        format=layer.format,
    )
    kernel = gpu.kernel(
        "attention_decode.cu",
        "attention_decode",
        constants,
        _ARGUMENTS,
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
        in_order=in_order,
    )
    strides = (token_stride("attention_decode", q), *new_strides)
    return kernel, gpu.num_sms * shape.blocks_per_sm // shape.cluster, shape.cluster, strides


def decode_constants(
    shape: DecodeShape,
    *,
    scalar: str,
    dim: int,
    num_pairs: int,
    num_kv_heads: int,
    group: int,
    page_tokens: int,
    window: int | None,
    format: KvFormat,
) -> Constants:
    """Return the kernel's -D; without pairs to rotate the pages hold all tokens."""
    return (
        ("SCALAR", scalar),
        ("DIM", dim),
        ("ROTARY", num_pairs),
        ("KV_HEADS", num_kv_heads),
        ("GROUP", group),
        ("PAGE_TOKENS", page_tokens),
        ("WINDOW", window or 0),
        ("KV_FORMAT", KV_FORMATS[format]),
        ("WARPS", shape.warps),
        ("STAGES", shape.stages),
        ("CLUSTER", shape.cluster),
        ("BLOCKS_PER_SM", shape.blocks_per_sm),
        ("MAX_SEQS", MAX_SEQS),
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
    if dim % 16 or dim > _MAX_DIM:
        faults.append(f"heads of {dim} elements are no multiple of 16 up to {_MAX_DIM}")
    if page_tokens % ROWS:
        faults.append(f"pages of {page_tokens} tokens are no multiple of {ROWS}")
    if layer.format not in ("none", "bf12") and row_bytes(dim, layer.format, dtype_bytes=2) % 32:
        faults.append(f"{layer.format} rows of heads of {dim} elements are no multiple of 32 bytes")
    faults += bf12_faults(layer.format, q.dtype, dim=dim)
    if layer.format == "fp8" and gpu.capability < (8, 9):
        capability = ".".join(map(str, gpu.capability))
        faults.append(f"fp8 pages on compute capability {capability}, 8.9 is the first that reads them")
    if faults:
        raise KernelError(f"`attention_decode`: {'; '.join(faults)}")
    return num_kv_heads, num_heads // num_kv_heads, dim


def _check_new(gpu: Gpu, q: Tensor, new: NewTokens, layer: KvLayer) -> tuple[int, tuple[int, int]]:
    """Return the pairs that are rotated, and the strides of k and v."""
    check_rotation(gpu, "attention_decode", q, new.k_BKD, new.cos_BR, new.sin_BR)
    check_pages(gpu, "attention_decode", new.k_BKD, new.v_BKD, layer, new.slots_B)
    num_pairs = new.cos_BR.shape[1]
    if not takes_new_tokens(layer.format, dim=q.shape[2], num_pairs=num_pairs):
        raise KernelError(
            f"`attention_decode` with new tokens of {num_pairs} rotated pairs in heads of {q.shape[2]}, "
            f"{layer.format} pages: pairs must be whole units; call `rope_store_kv` before it"
        )
    return num_pairs, (
        token_stride("attention_decode", new.k_BKD),
        token_stride("attention_decode", new.v_BKD),
    )
