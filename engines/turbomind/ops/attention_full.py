"""Attention inside images: launches `kernels/attention_full.cu`, or its Hopper form where that runs."""

import math

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, scalar_name, token_stride
from engines.turbomind.ops.attention_full_hopper import attention_full_hopper
from engines.turbomind.ops.flash_shape import Cut, FlashShape, flash_shape, matrix_fault
from engines.turbomind.ops.hopper_shape import full_shape

# The first that fits the GPU; none spills a register for heads up to its size. Measurements: kernels/LOG.md.
CUTS: tuple[tuple[int, Cut], ...] = (
    (64, (4, 2, 64, 64, 2)),
    (128, (4, 2, 32, 32, 2)),
    (128, (4, 2, 32, 32, 1)),
    (256, (4, 1, 32, 32, 1)),
    (256, (2, 1, 16, 16, 1)),
)


def attention_full(
    gpu: Gpu, q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, *, scale: float, shape: FlashShape | None = None
) -> Tensor:
    """Return unmasked attention inside each image, [I, L, N, D].

    A given `shape` cuts `attention_full.cu` (benchmarks).
    """
    images, length, heads, dim = q_ILND.shape
    check(
        gpu,
        "attention_full",
        **{
            name: (x, q_ILND.dtype, (images, length, heads, dim))
            for name, x in (("q", q_ILND), ("k", k_ILND), ("v", v_ILND))
        },
    )
    if faults := matrix_fault(gpu, q_ILND.dtype):
        raise KernelError(f"`attention_full`: {'; '.join(faults)}")
    if not q_ILND.numel():
        return torch.empty_like(q_ILND)
    strides = (_image_token_stride(q_ILND), _image_token_stride(k_ILND), _image_token_stride(v_ILND))
    hopper = full_shape(gpu.capability, dim=dim, length=length, pairs=images * heads, num_sms=gpu.num_sms)
    if shape is None and hopper:
        return attention_full_hopper(gpu, q_ILND, k_ILND, v_ILND, scale=scale, strides=strides, shape=hopper)
    out = torch.empty(q_ILND.shape, dtype=q_ILND.dtype, device=q_ILND.device)
    shape = shape or flash_shape(
        CUTS,
        dim,
        bytes_per_block=gpu.shared_bytes_per_block,
        bytes_per_sm=gpu.shared_bytes_per_sm,
    )
    constants = (*shape.constants(scalar_name("attention_full", q_ILND), dim), ("HEADS", heads))
    kernel = gpu.kernel(
        "attention_full.cu",
        "attention_full",
        constants,
        "PPPPiqqqf",
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )
    kernel(
        gpu.stream(),
        (images * heads, -(-length // shape.rows)),
        q_ILND.data_ptr(),
        k_ILND.data_ptr(),
        v_ILND.data_ptr(),
        out.data_ptr(),
        length,
        *strides,
        scale * math.log2(math.e),
    )
    return out


def _image_token_stride(x_ILND: Tensor) -> int:
    """Return the distance of two tokens; images must follow each other at the same distance."""
    images, length = x_ILND.shape[:2]
    stride = token_stride("attention_full", x_ILND[0])
    if images > 1 and x_ILND.stride(0) != length * stride:
        raise KernelError(
            f"`attention_full`: images must follow each other, strides are {list(x_ILND.stride())}"
        )
    return stride
