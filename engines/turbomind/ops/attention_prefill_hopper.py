"""Launches `kernels/attention_prefill_hopper.cu`: the same op as `attention_prefill.py`, on sm_90a."""

import math

from torch import Tensor

from engines.ops import KvLayer
from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import planned, scalar_name, token_stride
from engines.turbomind.ops.hopper_shape import HopperShape, box_keys
from engines.turbomind.ops.kv_pool import KV_FORMATS, pool_addresses
from engines.turbomind.tensor_map import TensorView


def attention_prefill_hopper(
    gpu: Gpu,
    q_TND: Tensor,
    layer: KvLayer,
    pages_BP: Tensor,
    q_starts_B1: Tensor,
    kv_lens_B: Tensor,
    *,
    scale: float,
    window: int | None,
    out_TND: Tensor,
    shape: HopperShape,
    dynamic: bool = True,
) -> Tensor:
    """Write causal attention into `out_TND` and return it; operands are checked by the caller.

    Without `dynamic`, items are dealt to blocks by their index (benchmarks). The counter that blocks share
    belongs to one `Gpu`, so launches must run on one stream.
    """
    num_heads = q_TND.shape[1]
    num_kv_heads = layer.keys_PKTD.shape[1]
    group, num_seqs = num_heads // num_kv_heads, kv_lens_B.shape[0]
    counter = gpu.scratch("attention_prefill counter", 4).data_ptr() if dynamic else 0
    num_shares = gpu.num_sms * shape.consumers
    shares = gpu.scratch(
        "attention_prefill shares", num_shares * shape.share_bytes(q_TND.shape[2])
    ).data_ptr()
    arrivals = gpu.scratch("attention_prefill arrivals", num_shares * 4).data_ptr()
    kernel = planned(
        gpu,
        "attention_prefill_hopper",
        (q_TND, layer.keys_PKTD),
        lambda: _kernel(gpu, q_TND, layer, shape, group=group, window=window),
        shape,
        layer.format,
        window,
    )
    maps = () if shape.code_stages else tuple(gpu.tensor_map(_view(pool, shape)) for pool, _ in layer.pages)
    kernel(
        gpu.stream(),
        (gpu.num_sms, 1),
        *maps,
        *pool_addresses(layer),
        q_TND.data_ptr(),
        pages_BP.data_ptr(),
        q_starts_B1.data_ptr(),
        kv_lens_B.data_ptr(),
        out_TND.data_ptr(),
        counter,
        shares,
        arrivals,
        num_seqs,
        pages_BP.stride(0),
        token_stride("attention_prefill", q_TND),
        scale * math.log2(math.e),
    )
    return out_TND


def _view(pool_PKTD: Tensor, shape: HopperShape) -> TensorView:
    """Return the pool as rows of tokens."""
    num_pages, num_kv_heads, page_tokens, dim = pool_PKTD.shape
    return TensorView(
        address=pool_PKTD.data_ptr(),
        dtype=pool_PKTD.dtype,
        sizes=(dim, num_pages * num_kv_heads * page_tokens),
        strides_bytes=(dim * 2,),
        box=(64, box_keys(shape.keys, page_tokens)),
    )


def _kernel(
    gpu: Gpu, q: Tensor, layer: KvLayer, shape: HopperShape, *, group: int, window: int | None
) -> Kernel:
    num_kv_heads, page_tokens, dim = layer.keys_PKTD.shape[1], layer.page_tokens, q.shape[2]
    form = (("KV_FORMAT", KV_FORMATS[layer.format]),) if shape.code_stages else ()
    constants = (
        *shape.constants(scalar_name("attention_prefill", q), dim),
        ("KV_HEADS", num_kv_heads),
        ("GROUP", group),
        ("PAGE_TOKENS", page_tokens),
        ("WINDOW", window or 0),
        ("BOX_KEYS", box_keys(shape.keys, page_tokens)),
        *form,
    )
    return gpu.kernel(
        "attention_prefill_hopper.cu",
        "attention_prefill_hopper",
        constants,
        ("PPPP" if shape.code_stages else "MMPP") + "PPPPPPPPiiqf",
        threads=shape.threads,
        shared_bytes=shape.shared_bytes(dim, layer.format),
    )
