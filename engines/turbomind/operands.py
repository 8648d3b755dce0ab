"""What a launcher demands of its tensors, said in one place: a kernel reads addresses and believes them."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import SCALARS, Gpu

Plan = TypeVar("Plan")

_KEPT_PLANS = 4096  # of some ten ops at each number of tokens that comes


def planned(
    gpu: Gpu, op: str, operands: tuple[Tensor, ...], plan: Callable[[], Plan], *settings: object
) -> Plan:
    """Return `plan()`, kept for operands of which all is the same that `check` looks at.

    The layers of a step ask for the same things; checking them and finding the kernel takes longer than
    starting it.
    """
    facts = [(x.dtype, x.shape, x.stride(), x.device, x.data_ptr() % 16) for x in operands]
    key = (op, settings, *facts)
    found: Plan | None = gpu.plans.get(key)
    if found is None:
        if len(gpu.plans) >= _KEPT_PLANS:
            gpu.plans.clear()
        found = gpu.plans[key] = plan()
    return found


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
    device = gpu.device
    for x, dtype, shape in operands.values():
        # Every launch passes here, so what is right is found right first and words are for later.
        if x.dtype is not dtype or x.shape != shape or x.device != device or _misplaced(x):
            faults = [fault for name, operand in operands.items() for fault in _faults(gpu, name, *operand)]
            raise KernelError(f"`{op}`: {'; '.join(faults)}")


def _misplaced(x: Tensor) -> bool:
    """Return whether 16-byte accesses to the rows of x would fault or go astray."""
    if x.stride(-1) != 1 and x.shape[-1] > 1 and x.numel():
        return True
    return x.is_floating_point() and x.data_ptr() % 16 != 0


def _faults(gpu: Gpu, name: str, x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Iterator[str]:
    if x.device != gpu.device:
        yield f"`{name}` is on {x.device}, not on {gpu.device}"
    if x.dtype != dtype:
        yield f"`{name}` is {x.dtype}, not {dtype}"
    if x.shape != shape:
        yield f"`{name}` is {list(x.shape)}, not {list(shape)}"
    elif _misplaced(x):
        past = x.data_ptr() % 16
        yield (
            f"`{name}` has strides {list(x.stride())} and starts {past} bytes past a multiple of 16: "
            "rows must be contiguous and start at one"
        )


def rows(x: Tensor) -> Tensor:
    """Return x as contiguous rows [T, H]; copies only what is not contiguous yet."""
    return x if x.dim() == 2 and x.is_contiguous() else x.reshape(-1, x.shape[-1]).contiguous()


def token_stride(op: str, x_TND: Tensor) -> int:
    """Return the distance of two tokens in elements; the heads of one token must be contiguous."""
    heads, dim = x_TND.shape[1:]
    if x_TND.numel() and (x_TND.stride(2) != 1 or (heads > 1 and x_TND.stride(1) != dim)):
        raise KernelError(
            f"`{op}`: the heads of a token must be contiguous, strides are {list(x_TND.stride())}"
        )
    return x_TND.stride(0)
