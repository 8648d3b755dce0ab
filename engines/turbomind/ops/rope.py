"""Launches `kernels/rope.cu`."""

from functools import partial

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import check, planned, scalar_name, token_stride
from engines.turbomind.ops.kv_pool import pool_addresses, pool_operands
from engines.turbomind.ops.store_codes import Grid, rope_store_codes, store_codes

_THREADS = 256


def rope(gpu: Gpu, q_TND: Tensor, k_TKD: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
    """Return q and k rotated, contiguous."""
    check_rotation(gpu, "rope", q_TND, k_TKD, cos_TR, sin_TR)
    q_out = torch.empty(q_TND.shape, dtype=q_TND.dtype, device=q_TND.device)
    k_out = torch.empty(k_TKD.shape, dtype=q_TND.dtype, device=q_TND.device)
    if q_TND.shape[0]:
        constants = _constants("rope", q_TND, k_TKD.shape[1], rotary=cos_TR.shape[1], page_tokens=1)
        kernel = gpu.kernel("rope.cu", "rope", constants, "PPPPPPqq", threads=_THREADS)
        kernel(
            gpu.stream(),
            _grid(q_TND, q_TND.shape[1] + k_TKD.shape[1], rotary=cos_TR.shape[1]),
            q_TND.data_ptr(),
            k_TKD.data_ptr(),
            cos_TR.data_ptr(),
            sin_TR.data_ptr(),
            q_out.data_ptr(),
            k_out.data_ptr(),
            token_stride("rope", q_TND),
            token_stride("rope", k_TKD),
        )
    return q_out, k_out


def store_kv(gpu: Gpu, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
    """Write rows of k and v into their slots of the pages."""
    check_pages(gpu, "store_kv", k_TKD, v_TKD, layer, slots_T)
    if not k_TKD.shape[0]:
        return
    if layer.format == "none":
        heads, page_tokens = k_TKD.shape[1], layer.page_tokens
        constants = _constants("store_kv", k_TKD, heads, rotary=0, page_tokens=page_tokens)
        kernel = gpu.kernel("rope.cu", "store_kv", constants, "PPPPPqq", threads=_THREADS)
        grid = _grid(k_TKD, heads, rotary=0)
    else:
        kernel, grid = store_codes(gpu, k_TKD, layer)
    kernel(
        gpu.stream(),
        grid,
        k_TKD.data_ptr(),
        v_TKD.data_ptr(),
        *pool_addresses(layer),
        slots_T.data_ptr(),
        token_stride("store_kv", k_TKD),
        token_stride("store_kv", v_TKD),
    )


def rope_store_kv(
    gpu: Gpu,
    q_TND: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    cos_TR: Tensor,
    sin_TR: Tensor,
    layer: KvLayer,
    slots_T: Tensor,
) -> Tensor:
    """Rotate q and k, write k and v into their slots, return q: `rope` and `store_kv` in one pass."""
    operands = (q_TND, k_TKD, v_TKD, cos_TR, sin_TR)
    plan = partial(_rope_store_kv, gpu, operands, layer, slots_T)
    pools = [tensor for pair in layer.pages for tensor in pair if tensor is not None]
    kernel, grid, strides = planned(gpu, "rope_store_kv", (*operands, slots_T, *pools), plan, layer.format)
    q_out = torch.empty(q_TND.shape, dtype=q_TND.dtype, device=q_TND.device)
    if grid[0]:
        kernel(
            gpu.stream(),
            grid,
            *(operand.data_ptr() for operand in operands),
            q_out.data_ptr(),
            *pool_addresses(layer),
            slots_T.data_ptr(),
            *strides,
        )
    return q_out


def _rope_store_kv(
    gpu: Gpu, operands: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], layer: KvLayer, slots_T: Tensor
) -> tuple[Kernel, Grid, tuple[int, ...]]:
    """Return the kernel for operands that were checked, its grid, the tokens' strides of q, k and v."""
    q_TND, k_TKD, v_TKD, cos_TR, sin_TR = operands
    check_rotation(gpu, "rope_store_kv", q_TND, k_TKD, cos_TR, sin_TR)
    check_pages(gpu, "rope_store_kv", k_TKD, v_TKD, layer, slots_T)
    rotary, num_kv_heads, page_tokens = cos_TR.shape[1], k_TKD.shape[1], layer.page_tokens
    strides = tuple(token_stride("rope_store_kv", x) for x in (q_TND, k_TKD, v_TKD))
    if layer.format != "none":
        return *rope_store_codes(gpu, q_TND, k_TKD, layer, rotary=rotary), strides
    grid = _grid(q_TND, q_TND.shape[1] + num_kv_heads, rotary=rotary, copied_heads=num_kv_heads)
    constants = _constants("rope_store_kv", q_TND, num_kv_heads, rotary=rotary, page_tokens=page_tokens)
    kernel = gpu.kernel("rope.cu", "rope_store_kv", constants, "PPPPPPPPPqqq", threads=_THREADS)
    return kernel, grid, strides


def check_rotation(gpu: Gpu, op: str, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Hold q, k and their angles to each other. Raises KernelError."""
    tokens, dim, rotary = q.shape[0], q.shape[2], cos.shape[-1]
    check(
        gpu,
        op,
        q=(q, q.dtype, tuple(q.shape)),
        k=(k, q.dtype, (tokens, k.shape[1], dim)),
        cos=(cos, torch.float32, (tokens, rotary)),
        sin=(sin, torch.float32, (tokens, rotary)),
    )
    lanes = 16 // q.element_size()
    if rotary % lanes or dim % lanes or 2 * rotary > dim:
        raise KernelError(
            f"`{op}` of {rotary} pairs in heads of {dim}: both must be multiples of {lanes}, "
            f"2 x {rotary} at most {dim}"
        )
    if not (cos.is_contiguous() and sin.is_contiguous()):
        raise KernelError(f"`{op}`: cos and sin must be contiguous")


def check_pages(gpu: Gpu, op: str, k: Tensor, v: Tensor, layer: KvLayer, slots: Tensor) -> None:
    """Hold new keys and values to the pages that take them. Raises KernelError."""
    tokens, num_kv_heads, dim = k.shape
    pool = pool_operands(layer, dim=dim, dtype=k.dtype)
    check(
        gpu,
        op,
        k=(k, k.dtype, (tokens, num_kv_heads, dim)),
        v=(v, k.dtype, (tokens, num_kv_heads, dim)),
        **pool,
        slots=(slots, torch.int64, (tokens,)),
    )
    if layer.keys_PKTD.shape[1] != num_kv_heads:
        raise KernelError(f"`{op}`: {num_kv_heads} KV heads into pages of {layer.keys_PKTD.shape[1]}")
    if not all(pages.is_contiguous() for pages, *_ in pool.values()):
        raise KernelError(f"`{op}`: the pages must be contiguous")


def _constants(op: str, x: Tensor, num_kv_heads: int, *, rotary: int, page_tokens: int) -> Constants:
    return (
        ("SCALAR", scalar_name(op, x)),
        ("HEADS", x.shape[1]),
        ("KV_HEADS", num_kv_heads),
        ("DIM", x.shape[2]),
        ("ROTARY", rotary),
        ("PAGE_TOKENS", page_tokens),
    )


def _grid(x_TND: Tensor, heads: int, *, rotary: int, copied_heads: int = 0) -> Grid:
    """Return (tokens, blocks a token): a thread per pair of rotated pieces, passed piece or copied piece."""
    dim, lanes = x_TND.shape[2], 16 // x_TND.element_size()
    work = (heads * (dim - rotary) + copied_heads * dim) // lanes
    return x_TND.shape[0], -(-work // _THREADS)
