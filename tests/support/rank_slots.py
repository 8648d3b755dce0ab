"""The slots in which ranks give each other rows, all on one device: a test plays the other ranks."""

import torch

from engines.turbomind.ops.sum_ranks import Boxes
from engines.turbomind.ops.sum_ranks_norm import row_epochs
from engines.turbomind.rank_boxes import SLOT_BYTES, most_rows, slots_bytes


class SlotGroup:
    """The boxes of all ranks on one device; the sums are those of one of them."""

    def __init__(self, gpu, *, rank: int, size: int) -> None:
        self.size, self.most = size, most_rows(size)
        self.memory = list(torch.zeros(size, slots_bytes(size), dtype=torch.uint8, device=gpu.device))
        self.boxes = Boxes(
            rank=rank,
            size=size,
            addresses_R=torch.tensor([box.data_ptr() for box in self.memory], device=gpu.device),
            epochs_B=row_epochs(size, gpu.device),
        )

    def words(self, box: int, source: int, row: int, epoch: int, row_bytes: int) -> torch.Tensor:
        """Return where a rank finds a row that another has given it, [word, numbers and epoch]."""
        start = ((epoch % 2 * self.size + source) * self.most + row) * SLOT_BYTES
        return self.memory[box][start : start + 2 * row_bytes].view(torch.int32).view(-1, 2)


def packed(row: torch.Tensor, epoch: int) -> torch.Tensor:
    """Return a row as words of four bytes and an epoch: the first two of each piece, then the last two."""
    halves = row.view(torch.int32).view(-1, 2, 2).transpose(0, 1).reshape(-1)
    return torch.stack([halves, torch.full_like(halves, epoch)], dim=1)
