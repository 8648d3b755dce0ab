"""Small tensors between host and device, in both directions, without waiting for the device."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def on_device(values: Seq[Any], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor of these numbers on the device; the copy is queued, not waited for."""
    host = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)


def in_one_copy(
    wide: Seq[NDArray[Any]], narrow: Seq[NDArray[Any]], device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Return arrays on the device as int64 and int32, views of one block that one copy fills.

    Each is aligned to 16 bytes. The copy is queued, not waited for.
    """
    starts = list(accumulate((-(-array.size // 2) * 2 for array in wide), initial=0))  # in int64
    ends = list(accumulate((-(-array.size // 4) * 4 for array in narrow), initial=2 * starts[-1]))  # in int32
    host = torch.empty(ends[-1] // 2, dtype=torch.int64, pin_memory=device.type == "cuda")
    _fill(host.numpy(), wide, starts)
    _fill(host.numpy().view(np.int32), narrow, ends)
    there = host.to(device, non_blocking=True)
    return _views(there, wide, starts), _views(there.view(torch.int32), narrow, ends)


def _fill(flat: NDArray[Any], arrays: Seq[NDArray[Any]], starts: Seq[int]) -> None:
    for array, start in zip(arrays, starts, strict=False):
        flat[start : start + array.size] = array.reshape(-1)


def _views(flat: Tensor, arrays: Seq[NDArray[Any]], starts: Seq[int]) -> list[Tensor]:
    return [
        flat[start : start + array.size].view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]


class HostCopy:
    """A copy that is queued behind the work that fills the tensor."""

    def __init__(self, tensor: Tensor, *, copy: Callable[[Tensor, Tensor], None] | None = None) -> None:
        """`copy` queues what brings a tensor to (pinned) memory of the host; None: torch does."""
        on_gpu = tensor.device.type == "cuda"
        self._there: Any = None
        self._host = tensor
        if on_gpu or copy is not None:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
            if copy is None:
                self._host.copy_(tensor, non_blocking=True)
            else:
                copy(tensor, self._host)
        if on_gpu:
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's stubs
            self._there.record()

    def wait(self) -> Tensor:
        """Return the tensor on the host once it is there; raises what the device raises."""
        if self._there is not None:
            self._there.synchronize()
        return self._host
