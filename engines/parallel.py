"""The ranks that share one model: the only place with a communicator.

A group of one is the identity, so networks are written once. `engines/ipc/followers.py` starts the processes
of a larger one; each calls `join` before its first collective.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

MOST_GATHERED = 256  # bytes a rank brings to `TpGroup.gather`, its length included
# Since 2.13 torch calls it all_gather_single and warns of the older name.
_gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Sums(Protocol):
    """Sums over the ranks of a group, for tensors that it takes better than a library."""

    def takes(self, x: Tensor) -> bool:
        """Whether a tensor is one of them; the same answer on every rank."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks, the same bits on each; x may be overwritten."""
        ...


@dataclass(kw_only=True, slots=True)
class TpGroup:
    """One rank's view of its tensor-parallel group."""

    rank: int = 0
    size: int = 1
    sums: Sums | None = None  # set once the group has joined; None: the library takes every sum

    def join(self, rendezvous: Path, device: torch.device) -> None:
        """Meet the other ranks at a file: NCCL between GPUs, gloo between CPU processes."""
        dist.init_process_group(
            "gloo" if device.type == "cpu" else None,
            init_method=f"file://{rendezvous}",
            rank=self.rank,
            world_size=self.size,
            device_id=None if device.type == "cpu" else device,
        )

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum over ranks, the same bits on each; x may be overwritten."""
        if self.sums is not None and self.sums.takes(x):
            return self.sums.sum(x)
        if self.size > 1 and x.numel():
            dist.all_reduce(x)
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return the ranks' tensors side by side along the last axis."""
        if self.size == 1:
            return x
        parts = x.new_empty(self.size * x.shape[0], *x.shape[1:])
        _gather_single(parts, x.contiguous())
        return torch.cat(parts.chunk(self.size), dim=-1)

    def gather(self, own: bytes, device: torch.device) -> list[bytes]:
        """Return what each rank brought, at most 255 bytes; waits for all of them."""
        assert len(own) < MOST_GATHERED, "a length is one byte"
        padded = own + bytes(MOST_GATHERED - 1 - len(own)) + bytes([len(own)])
        mine = torch.frombuffer(bytearray(padded), dtype=torch.uint8).to(device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        found = [bytes(part.tolist()) for part in parts]
        return [part[: part[-1]] for part in found]

    def least(self, value: int, device: torch.device) -> int:
        """Return the smallest of the ranks' values; waits for all of them."""
        if self.size == 1:
            return value
        values = torch.tensor([value], dtype=torch.int64, device=device)
        dist.all_reduce(values, op=dist.ReduceOp.MIN)
        return int(values.item())
