"""Launches `kernels/attention_full_hopper.cu`: the same op as `attention_full.py`, on sm_90a."""

import math

import torch
from torch import Tensor

from engines.turbomind.gpu import Gpu
from engines.turbomind.launch import Kernel
from engines.turbomind.operands import scalar_name
from engines.turbomind.ops.hopper_shape import MOST_LONE, HopperShape
from engines.turbomind.tensor_map import TensorView


def attention_full_hopper(
    gpu: Gpu,
    q_ILND: Tensor,
    k_ILND: Tensor,
    v_ILND: Tensor,
    *,
    scale: float,
    strides: tuple[int, int, int],
    shape: HopperShape,
) -> Tensor:
    """Return unmasked attention inside each image; operands are checked by the caller.

    `strides` are the distances of two tokens of q, k and v in elements.
    """
    images, length, heads, dim = q_ILND.shape
    out = torch.empty(q_ILND.shape, dtype=q_ILND.dtype, device=q_ILND.device)
    kernel = _kernel(gpu, q_ILND, shape)
    num_items = images * heads * shape.num_blocks(length)
    shares, arrivals = None, 0
    if shape.lone:
        assert shape.leaves_one(length), "the shape is of images that are whole items and one query"
        shares = torch.empty(num_items * 3 * (dim + 8), dtype=torch.float32, device=q_ILND.device)
        arrivals = gpu.scratch("attention_full arrivals", 4 * max(MOST_LONE, images * heads)).data_ptr()
    kernel(
        gpu.stream(),
        (min(gpu.num_sms, num_items), 1),
        gpu.tensor_map(view(k_ILND, stride=strides[1], tokens=shape.keys)),
        gpu.tensor_map(view(v_ILND, stride=strides[2], tokens=shape.keys)),
        gpu.tensor_map(view(q_ILND, stride=strides[0], tokens=shape.rows)),
        q_ILND.data_ptr(),
        k_ILND.data_ptr(),
        v_ILND.data_ptr(),
        out.data_ptr(),
        images,
        length,
        *strides,
        scale * math.log2(math.e),
        shares.data_ptr() if shares is not None else 0,
        arrivals,
    )
    return out


def view(x_ILND: Tensor, *, stride: int, tokens: int) -> TensorView:
    """Return queries, keys or values as the copy engine sees them; a box is one head of so many tokens."""
    images, length, heads, dim = x_ILND.shape
    return TensorView(
        address=x_ILND.data_ptr(),
        dtype=x_ILND.dtype,
        sizes=(dim, heads, length, images),
        strides_bytes=(2 * dim, 2 * stride, 2 * stride * length),
        box=(64, 1, tokens, 1),
    )


def _kernel(gpu: Gpu, q: Tensor, shape: HopperShape) -> Kernel:
    heads, dim = q.shape[2:]
    constants = (*shape.constants(scalar_name("attention_full", q), dim), ("HEADS", heads))
    return gpu.kernel(
        "attention_full_hopper.cu",
        "attention_full_hopper",
        constants,
        "MMMPPPPiiqqqfPP",
        threads=shape.threads,
        shared_bytes=shape.shared_bytes(dim),
    )
