"""Launches `kernels/store_codes.cu`, the quantized forms of `store_kv` and `rope_store_kv`; for `rope.py`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.kv_layer import KvLayer
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import scalar_name, token_stride
from engines.turbomind.ops.kv_pool import KV_FORMATS, scale_addresses

_THREADS = 256


def store_codes(gpu: Gpu, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
    """Quantize rows of k and v into their slots; operands are checked by the caller."""
    constants = _constants(gpu, "store_kv", k_TKD, layer, heads=0, rotary=0)
    kernel = gpu.kernel("store_codes.cu", "store_codes", constants, "PPPPPPPqq", threads=_THREADS)
    kernel(
        gpu.stream(),
        _grid(k_TKD, rows=2 * k_TKD.shape[1]),
        k_TKD.data_ptr(),
        v_TKD.data_ptr(),
        layer.keys_PKTD.data_ptr(),
        layer.values_PKTD.data_ptr(),
        *scale_addresses(layer),
        slots_T.data_ptr(),
        token_stride("store_kv", k_TKD),
        token_stride("store_kv", v_TKD),
    )


def rope_store_codes(
    gpu: Gpu,
    q_TND: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    cos_TR: Tensor,
    sin_TR: Tensor,
    layer: KvLayer,
    slots_T: Tensor,
    *,
    out_TND: Tensor,
) -> None:
    """Rotate q into `out_TND`, quantize rotated k and v into their slots; the caller has checked them."""
    heads, num_kv_heads = q_TND.shape[1], k_TKD.shape[1]
    constants = _constants(gpu, "rope_store_kv", k_TKD, layer, heads=heads, rotary=cos_TR.shape[1])
    kernel = gpu.kernel("store_codes.cu", "rope_store_codes", constants, "PPPPPPPPPPPqqq", threads=_THREADS)
    kernel(
        gpu.stream(),
        _grid(q_TND, rows=heads + 2 * num_kv_heads),
        q_TND.data_ptr(),
        k_TKD.data_ptr(),
        v_TKD.data_ptr(),
        cos_TR.data_ptr(),
        sin_TR.data_ptr(),
        out_TND.data_ptr(),
        layer.keys_PKTD.data_ptr(),
        layer.values_PKTD.data_ptr(),
        *scale_addresses(layer),
        slots_T.data_ptr(),
        token_stride("rope_store_kv", q_TND),
        token_stride("rope_store_kv", k_TKD),
        token_stride("rope_store_kv", v_TKD),
    )


def _constants(gpu: Gpu, op: str, k: Tensor, layer: KvLayer, *, heads: int, rotary: int) -> Constants:
    if k.dtype not in (torch.bfloat16, torch.float16) or k.shape[2] > 256:
        raise KernelError(
            f"`{op}` of {k.dtype} heads of {k.shape[2]} into {layer.format} pages: "
            "the kernel takes bfloat16 or float16, heads of at most 256"
        )
    if layer.format == "fp8" and gpu.capability < (8, 9):
        raise KernelError(
            f"`{op}` into fp8 pages on compute capability {gpu.capability[0]}.{gpu.capability[1]}: "
            "8.9 is the first that rounds to fp8; use int8"
        )
    return (
        ("SCALAR", scalar_name(op, k)),
        ("HEADS", heads),
        ("KV_HEADS", k.shape[1]),
        ("DIM", k.shape[2]),
        ("ROTARY", rotary),
        ("PAGE_TOKENS", layer.page_tokens),
        ("KV_FORMAT", KV_FORMATS[layer.format]),
    )


def _grid(x_TND: Tensor, *, rows: int) -> tuple[int, int]:
    """Return (tokens, blocks a token): a row takes a power of two of lanes, 8 elements each."""
    lanes = 1 << (x_TND.shape[2] // 8 - 1).bit_length()
    return x_TND.shape[0], -(-rows * lanes // _THREADS)
