"""Attention of chunks: launches `kernels/attention_prefill.cu`, or its Hopper form where that runs.

The latter reads quantized pages too.
"""

import math
from functools import partial

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, scalar_name, token_stride
from engines.turbomind.ops.attention_prefill_hopper import attention_prefill_hopper
from engines.turbomind.ops.flash_shape import Cut, FlashShape, flash_shape, matrix_fault, most_blocks
from engines.turbomind.ops.hopper_shape import HopperShape, codes_shape, prefill_shape
from engines.turbomind.ops.kv_pool import pool_operands

# The first that fits the GPU; none spills a register for heads up to its size. Measurements: kernels/LOG.md.
CUTS: tuple[tuple[int, Cut], ...] = (
    (64, (4, 2, 64, 64, 2)),
    (128, (4, 2, 64, 32, 2)),
    (128, (4, 2, 64, 32, 1)),
    (128, (4, 2, 32, 32, 1)),
    (256, (4, 1, 32, 32, 1)),
    (256, (2, 1, 16, 16, 1)),
)


def attention_prefill(
    gpu: Gpu,
    q_TND: Tensor,
    layer: KvLayer,
    pages_BP: Tensor,
    q_starts_B1: Tensor,
    kv_lens_B: Tensor,
    *,
    scale: float,
    window: int | None,
    shape: FlashShape | None = None,
    out_TND: Tensor | None = None,
) -> Tensor:
    """Return causal attention of the tokens of q over their sequences' pages, [T, N, D].

    The result goes into `out_TND` where one is given. `q_starts_B1` counts from the first row of q; rows
    before its first entry and behind its last are left alone. A given `shape` cuts `attention_prefill.cu`
    (benchmarks). Raises KernelError for quantized pages where `reads_codes` says no.
    """
    num_tokens, _, dim = q_TND.shape
    num_seqs = kv_lens_B.shape[0]
    num_kv_heads, group, hopper = planned(
        gpu,
        "attention_prefill",
        (q_TND, layer.keys_PKTD, layer.values_PKTD, pages_BP, q_starts_B1, kv_lens_B),
        lambda: _plan(gpu, q_TND, layer, pages_BP, q_starts_B1, kv_lens_B),
        layer.format,
    )
    out = torch.empty(q_TND.shape, dtype=q_TND.dtype, device=q_TND.device) if out_TND is None else out_TND
    if not num_tokens:
        return out
    if shape is None and hopper:
        where = (pages_BP, q_starts_B1, kv_lens_B)
        return attention_prefill_hopper(
            gpu, q_TND, layer, *where, scale=scale, window=window, out_TND=out, shape=hopper
        )
    shape = shape or flash_shape(
        CUTS,
        dim,
        bytes_per_block=gpu.shared_bytes_per_block,
        bytes_per_sm=gpu.shared_bytes_per_sm,
    )
    kernel = _kernel(gpu, q_TND, layer, shape, group=group, window=window)
    kernel(
        gpu.stream(),
        (num_kv_heads, most_blocks(num_tokens * group, num_seqs, shape.rows)),
        q_TND.data_ptr(),
        layer.keys_PKTD.data_ptr(),
        layer.values_PKTD.data_ptr(),
        pages_BP.data_ptr(),
        q_starts_B1.data_ptr(),
        kv_lens_B.data_ptr(),
        out.data_ptr(),
        num_seqs,
        pages_BP.stride(0),
        token_stride("attention_prefill", q_TND),
        scale * math.log2(math.e),
    )
    return out


def _kernel(
    gpu: Gpu, q: Tensor, layer: KvLayer, shape: FlashShape, *, group: int, window: int | None
) -> Kernel:
    _, num_kv_heads, page_tokens, dim = layer.keys_PKTD.shape
    constants = (
        *shape.constants(scalar_name("attention_prefill", q), dim),
        ("KV_HEADS", num_kv_heads),
        ("GROUP", group),
        ("PAGE_TOKENS", page_tokens),
        ("WINDOW", window or 0),
    )
    return gpu.kernel(
        "attention_prefill.cu",
        "attention_prefill",
        constants,
        "PPPPPPPiiqf",
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )


def reads_codes(gpu: Gpu, layer: KvLayer, *, dim: int) -> bool:
    """Whether `attention_prefill` takes the quantized pages of a layer as they are."""
    where = {"dim": dim, "page_tokens": layer.page_tokens, "items": 1, "num_sms": 1}
    return codes_shape(gpu.capability, **where, format=layer.format) is not None


def _plan(
    gpu: Gpu, q: Tensor, layer: KvLayer, pages: Tensor, q_starts: Tensor, kv_lens: Tensor
) -> tuple[int, int, HopperShape | None]:
    """Return KV heads, query heads of one and the cut of Hopper's kernel, for checked operands."""
    num_kv_heads, group = _check(gpu, q, layer, pages, q_starts, kv_lens)
    hopper = (prefill_shape if layer.format == "none" else partial(codes_shape, format=layer.format))(
        gpu.capability,
        dim=q.shape[2],
        page_tokens=layer.page_tokens,
        items=num_kv_heads * most_blocks(q.shape[0] * group, len(kv_lens), 128),
        num_sms=gpu.num_sms,
    )
    if hopper is None and layer.format != "none":
        raise KernelError("`attention_prefill` over quantized pages: needs Hopper's kernel; dequantize them")
    return num_kv_heads, group, hopper


def _check(
    gpu: Gpu, q: Tensor, layer: KvLayer, pages: Tensor, q_starts: Tensor, kv_lens: Tensor
) -> tuple[int, int]:
    num_tokens, num_heads, dim = q.shape
    num_kv_heads = layer.keys_PKTD.shape[1]
    num_seqs = kv_lens.shape[0]
    check(
        gpu,
        "attention_prefill",
        q=(q, q.dtype, (num_tokens, num_heads, dim)),
        **pool_operands(layer, dim=dim, dtype=q.dtype),
        pages=(pages, torch.int32, (num_seqs, pages.shape[-1])),
        q_starts=(q_starts, torch.int32, (num_seqs + 1,)),
        kv_lens=(kv_lens, torch.int32, (num_seqs,)),
    )
    faults = matrix_fault(gpu, q.dtype)
    if num_heads % num_kv_heads:
        faults.append(f"{num_heads} query heads are no multiple of {num_kv_heads} KV heads")
    if faults:
        raise KernelError(f"`attention_prefill`: {'; '.join(faults)}")
    return num_kv_heads, num_heads // num_kv_heads
