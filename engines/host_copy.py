"""Small tensors between host and device, in both directions, without waiting for the device."""

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

    def __init__(self, tensor: Tensor) -> None:
        self._there: Any = None
        self._host = tensor
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's stubs
            self._there.record()

    def wait(self) -> Tensor:
        """Return the tensor on the host once it is there; raises what the device raises."""
        if self._there is not None:
            self._there.synchronize()
        return self._host
