"""Small tensors between host and device, in both directions, without waiting for the device."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor


def on_device(values: Seq[Any], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor of these numbers on the device; the copy is queued, not waited for."""
    host = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)


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
