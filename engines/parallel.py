"""The ranks that share one model: the only place with a communicator.

A group of one is the identity, so networks are written once. `engines/followers.py` starts the processes of
a larger one; each calls `join` before its first collective.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class TpGroup:
    """One rank's view of its tensor-parallel group."""

    rank: int = 0
    size: int = 1

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
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return the ranks' tensors side by side along the last axis."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim=-1)

    def least(self, value: int, device: torch.device) -> int:
        """Return the smallest of the ranks' values; waits for all of them."""
        if self.size == 1:
            return value
        values = torch.tensor([value], dtype=torch.int64, device=device)
        dist.all_reduce(values, op=dist.ReduceOp.MIN)
        return int(values.item())
