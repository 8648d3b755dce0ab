"""The kernels of `kernels/store_codes.cu`, the quantized forms of `store_kv` and `rope_store_kv`.

`rope.py` checks the operands and launches them as it does its own: the parameters follow the pages.
"""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import scalar_name
from engines.turbomind.ops.kv_pool import KV_FORMATS, bf12_faults

_THREADS = 256

Grid = tuple[int, int]  # tokens, blocks a token


def store_codes(gpu: Gpu, k_TKD: Tensor, layer: KvLayer) -> tuple[Kernel, Grid]:
    """Return the kernel that quantizes rows of k and v into their slots, and its grid.

    Raises KernelError for a dtype, heads or a device that it does not take.
    """
    constants = _constants(gpu, "store_kv", k_TKD, layer, heads=0, rotary=0)
    kernel = gpu.kernel("store_codes.cu", "store_codes", constants, "PPPPPPPqq", threads=_THREADS)
    return kernel, _grid(k_TKD, rows=2 * k_TKD.shape[1])


def rope_store_codes(
    gpu: Gpu, q_TND: Tensor, k_TKD: Tensor, layer: KvLayer, *, rotary: int
) -> tuple[Kernel, Grid]:
    """Return the kernel that rotates q, and k on its way into quantized pages, and its grid; likewise."""
    heads, num_kv_heads = q_TND.shape[1], k_TKD.shape[1]
    constants = _constants(gpu, "rope_store_kv", k_TKD, layer, heads=heads, rotary=rotary)
    kernel = gpu.kernel("store_codes.cu", "rope_store_codes", constants, "PPPPPPPPPPPqqq", threads=_THREADS)
    return kernel, _grid(q_TND, rows=heads + 2 * num_kv_heads)


def _constants(gpu: Gpu, op: str, k: Tensor, layer: KvLayer, *, heads: int, rotary: int) -> Constants:
    faults = bf12_faults(layer.format, k.dtype, dim=k.shape[2])
    if faults:
        raise KernelError(f"`{op}`: {'; '.join(faults)}")
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


def _grid(x_TND: Tensor, *, rows: int) -> Grid:
    """Return (tokens, blocks a token): a row takes a power of two of lanes, 8 elements each."""
    lanes = 1 << (x_TND.shape[2] // 8 - 1).bit_length()
    return x_TND.shape[0], -(-rows * lanes // _THREADS)
