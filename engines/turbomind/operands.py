"""What a launcher demands of its tensors, said in one place: a kernel reads addresses and believes them."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import SCALARS, Gpu


def scalar_name(op: str, x: Tensor) -> str:
    """Return the kernels' name of a tensor's dtype. Raises KernelError where they have none."""
    name = SCALARS.get(x.dtype)
    if name is None:
        raise KernelError(
            f"`{op}` on {x.dtype}: the kernels compute in {', '.join(sorted(SCALARS.values()))}"
        )
    return name


def check(gpu: Gpu, op: str, **operands: tuple[Tensor, torch.dtype, tuple[int, ...]]) -> None:
    """Hold each operand to a device, dtype and shape, its rows to contiguity; report all faults at once."""
    faults = []
    for name, (x, dtype, shape) in operands.items():
        if x.device != gpu.device:
            faults.append(f"`{name}` is on {x.device}, not on {gpu.device}")
        if x.dtype != dtype:
            faults.append(f"`{name}` is {x.dtype}, not {dtype}")
        if tuple(x.shape) != shape:
            faults.append(f"`{name}` is {list(x.shape)}, not {list(shape)}")
        elif x.numel() and x.shape[-1] > 1 and x.stride(-1) != 1:
            faults.append(f"`{name}` has elements {x.stride(-1)} apart in its last axis, not 1")
        if dtype.is_floating_point and x.data_ptr() % 16:
            faults.append(f"`{name}` does not start at a multiple of 16 bytes")
    if faults:
        raise KernelError(f"`{op}`: {'; '.join(faults)}")


def rows(x: Tensor) -> Tensor:
    """Return x as contiguous rows [T, H]; copies only what is not contiguous yet."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def token_stride(op: str, x_TND: Tensor) -> int:
    """Return the distance of two tokens in elements; the heads of one token must be contiguous."""
    heads, dim = x_TND.shape[1:]
    if x_TND.numel() and (x_TND.stride(2) != 1 or (heads > 1 and x_TND.stride(1) != dim)):
        raise KernelError(
            f"`{op}`: the heads of a token must be contiguous, strides are {list(x_TND.stride())}"
        )
    return x_TND.stride(0)
