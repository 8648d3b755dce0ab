"""The ranks of a tensor-parallel group as threads of one process."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Meeting:
    """What the threads of one group share."""

    size: int

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size)
        self.brought: dict[int, Tensor] = {}

    def gathered(self, rank: int, x: Tensor) -> list[Tensor]:
        """Return what every rank brought."""
        self.barrier.wait()
        self.brought[rank] = x
        self.barrier.wait()
        return [self.brought[i] for i in range(self.size)]


@dataclass
class ThreadGroup:
    """A TpGroup whose ranks are threads of one process."""

    rank: int
    size: int
    meeting: Meeting

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum over ranks."""
        return torch.stack(self.meeting.gathered(self.rank, x)).sum(0)

    def all_gather(self, x: Tensor) -> Tensor:
        """Return the ranks' tensors side by side."""
        return torch.cat(self.meeting.gathered(self.rank, x), dim=-1)


def in_threads(size: int, work: Callable[[int], Tensor]) -> list[Tensor]:
    """Return what each rank computes."""
    results: dict[int, Tensor] = {}
    threads = [
        threading.Thread(target=lambda rank=rank: results.update({rank: work(rank)})) for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[rank] for rank in range(size)]
