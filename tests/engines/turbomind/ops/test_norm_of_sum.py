"""A norm behind a sum over ranks: one kernel where rows are few, two elsewhere, the same numbers."""

import pytest
import torch
from rank_slots import SlotGroup, packed

from engines.parallel import TpGroup
from engines.turbomind.ops.norm import add_rms_norm
from engines.turbomind.ops.norm_of_sum import add_rms_norm as add_rms_norm_of_sum
from engines.turbomind.ops.norm_of_sum import add_rms_norm_codes as codes_of_sum
from engines.turbomind.ops.quantize_rows import add_rms_norm_codes
from engines.turbomind.rank_boxes import most_rows
from engines.turbomind.rank_sums import RankSums

BF16 = torch.bfloat16
EPS = 1e-5


class OtherRank(RankSums):
    """Sums of two ranks of which the other has minus twice as much."""

    summed = 0

    def takes(self, x: torch.Tensor) -> bool:
        return True

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        self.summed += 1
        return -x


@pytest.mark.parametrize(("num_rows", "summed"), [(3, 0), (most_rows(2) + 1, 1), (0, 1)])
def test_few_rows_are_summed_by_the_norm_and_others_before_it(gpu, num_rows: int, summed: int) -> None:
    other = SlotGroup(gpu, rank=0, size=2)
    sums = OtherRank(gpu, other.boxes, other.boxes)
    x, residual = torch.randn(2, num_rows, 64, device=gpu.device).to(BF16)
    weight = torch.randn(64, device=gpu.device).to(BF16)
    for row in range(min(num_rows, most_rows(2))):
        other.words(0, 1, row, 1, 128).copy_(packed(-2 * x[row], 1))
    found = add_rms_norm_of_sum(gpu, x, residual, weight, EPS, TpGroup(size=2, sums=sums))
    for got, wanted in zip(found, add_rms_norm(gpu, -x, residual, weight, EPS), strict=True):
        assert torch.equal(got, wanted)
    assert sums.summed == summed
    for row in range(min(num_rows, most_rows(2))):
        other.words(0, 1, row, 2, 128).copy_(packed(-2 * x[row], 2))
    codes = codes_of_sum(gpu, x, residual, weight, EPS, torch.int8, TpGroup(size=2, sums=sums))
    for got, wanted in zip(
        codes, add_rms_norm_codes(gpu, -x, residual, weight, EPS, torch.int8), strict=True
    ):
        assert torch.equal(got, wanted)
    assert sums.summed == 2 * summed


def test_without_a_group_x_is_the_sum(gpu) -> None:
    x, residual = torch.randn(2, 3, 64, device=gpu.device).to(BF16)
    found = add_rms_norm_of_sum(gpu, x, residual, x[0], EPS, None)
    for got, wanted in zip(found, add_rms_norm(gpu, x, residual, x[0], EPS), strict=True):
        assert torch.equal(got, wanted)
