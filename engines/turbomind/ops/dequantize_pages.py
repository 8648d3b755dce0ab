"""Launches `kernels/dequantize_pages.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.turbomind.gpu import SCALARS, Gpu
from engines.turbomind.operands import check
from engines.turbomind.ops.kv_pool import KV_FORMATS, pool_operands

_THREADS = 256


def dequantize_pages(
    gpu: Gpu,
    layer: KvLayer,
    pages_BP: Tensor,
    kv_lens_B: Tensor,
    *,
    room: int,
    dim: int,
    dtype: torch.dtype,
) -> tuple[KvLayer, Tensor]:
    """Return the pages of these sequences as numbers of `dtype`, and the table [B, P] of where each stands.

    `room` is at least how many they hold, the sum of ceil(kv_lens / page_tokens). The table's rows of empty
    sequences are left as they were.
    """
    num_seqs, most_pages = pages_BP.shape
    _, num_kv_heads, page_tokens, _ = layer.keys_PKTD.shape
    check(
        gpu,
        "dequantize_pages",
        **pool_operands(layer, dim=dim, dtype=dtype),
        pages=(pages_BP, torch.int32, (num_seqs, most_pages)),
        kv_lens=(kv_lens_B, torch.int32, (num_seqs,)),
    )
    if dtype not in (torch.bfloat16, torch.float16):
        raise KernelError(f"`dequantize_pages` to {dtype}: must be torch.bfloat16 or torch.float16")
    assert layer.key_scales_PKTS is not None, "quantized pages have parameters"
    assert layer.value_scales_PKTS is not None, "quantized pages have parameters"
    keys, values = torch.empty(2, room, num_kv_heads, page_tokens, dim, dtype=dtype, device=pages_BP.device)
    places_BP = torch.empty(num_seqs, most_pages, dtype=torch.int32, device=pages_BP.device)
    constants = (
        ("SCALAR", SCALARS[dtype]),
        ("KV_HEADS", num_kv_heads),
        ("DIM", dim),
        ("PAGE_TOKENS", page_tokens),
        ("KV_FORMAT", KV_FORMATS[layer.format]),
    )
    kernel = gpu.kernel(
        "dequantize_pages.cu", "dequantize_pages", constants, "PPPPPPPPPiii", threads=_THREADS
    )
    kernel(
        gpu.stream(),
        (room, 2 * num_kv_heads),
        layer.keys_PKTD.data_ptr(),
        layer.values_PKTD.data_ptr(),
        layer.key_scales_PKTS.data_ptr(),
        layer.value_scales_PKTS.data_ptr(),
        pages_BP.data_ptr(),
        kv_lens_B.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        places_BP.data_ptr(),
        num_seqs,
        pages_BP.stride(0),
        most_pages,
    )
    return KvLayer(keys_PKTD=keys, values_PKTD=values), places_BP
