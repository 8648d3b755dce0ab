"""Sums over the ranks of one host through memory that each of them maps: small ones, which NCCL is slow at.

Multicast (NVLS) is not used: it needs the fabric manager's leave on every host.
"""

import logging

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.parallel import TpGroup
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.sum_ranks import Boxes, epochs, sum_ranks, takes
from engines.turbomind.ops.sum_ranks_norm import row_epochs, takes_rows
from engines.turbomind.rank_boxes import box_bytes, slots_bytes
from engines.turbomind.shared_memory import allocate_shared, handle_of, open_shared

logger = logging.getLogger(__name__)


class RankSums:
    """Implements `engines.parallel.Sums`. Launches go to torch's current stream, the same on every rank."""

    def __init__(self, gpu: Gpu, boxes: Boxes, row_boxes: Boxes) -> None:
        self._gpu = gpu
        self._boxes = boxes
        self.row_boxes = row_boxes

    def takes(self, x: Tensor) -> bool:
        """Whether a tensor is small enough and lies right."""
        return takes(x, self._boxes.size)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks, written over x."""
        return sum_ranks(self._gpu, x, self._boxes)

    def takes_rows(self, x_TH: Tensor) -> bool:
        """Whether rows are few and short enough for the kernel that sums and norms, through `row_boxes`."""
        return takes_rows(x_TH, self.row_boxes.size)


def connect_ranks(gpu: Gpu, group: TpGroup) -> None:
    """Let a group that has joined take small sums through its own memory; NCCL keeps all where it cannot.

    Every rank has to call it: they go on together, or none does.
    """
    fault = _unreachable(gpu, group)
    own, handle = 0, b""
    if fault is None:
        try:
            own = allocate_shared(slots_bytes(group.size) + box_bytes(group.size))
            handle = handle_of(own)
        except KernelError as error:
            fault = str(error)
    handles = group.gather(handle if fault is None else b"", gpu.device)
    addresses: list[int] = []
    if all(handles):
        try:
            addresses = [own if i == group.rank else open_shared(one) for i, one in enumerate(handles)]
        except KernelError as error:
            fault = str(error)
    if not group.least(int(len(addresses) == group.size), gpu.device):
        logger.warning("ranks take small sums through NCCL: %s", fault or "another rank says why")
        return
    group.sums = _sums(gpu, group, torch.tensor(addresses, dtype=torch.int64, device=gpu.device))


def _sums(gpu: Gpu, group: TpGroup, addresses_R: Tensor) -> RankSums:
    """Return sums through memory of each rank at these addresses: slots of rows, then the box of the rest."""
    rank, size = group.rank, group.size
    rows = Boxes(rank=rank, size=size, addresses_R=addresses_R, epochs_B=row_epochs(size, gpu.device))
    behind_R = addresses_R + slots_bytes(size)
    boxes = Boxes(rank=rank, size=size, addresses_R=behind_R, epochs_B=epochs(size, gpu.device))
    return RankSums(gpu, boxes, rows)


def _unreachable(gpu: Gpu, group: TpGroup) -> str | None:
    """Return which GPUs of the group this one cannot write into."""
    own = gpu.device.index
    indices = [int(index) for index in group.gather(str(own).encode(), gpu.device)]
    missing = [str(i) for i in indices if i != own and not torch.cuda.can_device_access_peer(own, i)]
    return f"GPU {own} cannot reach the memory of GPU {', '.join(missing)}" if missing else None
