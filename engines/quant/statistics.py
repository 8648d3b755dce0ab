"""What flows into a linear layer: sums over the rows of a calibration, and some of the rows themselves.

Legend: R rows, I inputs.
"""

import torch
from torch import Tensor

KEPT_ROWS = 1024


class InputStatistics:
    """The inputs of one linear layer."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self.gram_II = torch.zeros(inputs, inputs, device=device)  # sum of x x^T
        self._sum_I = torch.zeros(inputs, device=device)
        self.largest_I = torch.zeros(inputs, device=device)
        self.num_rows = 0
        self._total = torch.zeros((), device=device)  # of the weights
        self._kept: list[Tensor] = []
        self._stride = 1

    def add(self, x_RI: Tensor, weights_R: Tensor) -> None:
        """Take in more rows; a weight counts in the sums, as if the row came so often."""
        x_RI = x_RI.reshape(-1, x_RI.shape[-1]).float()
        self.gram_II.addmm_(x_RI.T, x_RI * weights_R[:, None])
        self._sum_I += weights_R @ x_RI.abs()
        self.largest_I = torch.maximum(self.largest_I, x_RI.abs().amax(0))
        self.num_rows += len(x_RI)
        self._total += weights_R.sum()
        self._kept.append(x_RI[:: self._stride].clone())
        while sum(len(part) for part in self._kept) > 2 * KEPT_ROWS:  # thinned evenly, whatever comes
            self._kept = [torch.cat(self._kept)[::2].clone()]
            self._stride *= 2

    @property
    def mean_I(self) -> Tensor:
        """The mean size of each input."""
        return self._sum_I / self._total.clamp(min=1)

    @property
    def rows_RI(self) -> Tensor:
        """Some of the rows, up to KEPT_ROWS."""
        return torch.cat(self._kept)[:KEPT_ROWS]
