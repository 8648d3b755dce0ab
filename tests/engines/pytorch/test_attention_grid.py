"""Attention with relative positions against the scores written out; convolution against its definition."""

import pytest
import torch

from engines.ops import Ops
from engines.pytorch.ops_torch import TorchOps

OPS: Ops = TorchOps()


@pytest.mark.parametrize(("lines", "columns"), [(3, 3), (2, 5), (1, 1)])
def test_scores_are_products_and_what_the_query_says_of_line_and_column(lines: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(7)
    shape = (2, lines * columns, 3, 8)
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    down = torch.randn(*shape[:3], lines, generator=generator)
    across = torch.randn(*shape[:3], columns, generator=generator)
    scores = torch.einsum("iqnd,iknd->inqk", q, k) * 0.3
    for place in range(lines * columns):
        scores[..., place] += (down[..., place // columns] + across[..., place % columns]).transpose(1, 2)
    wanted = torch.einsum("inqk,iknd->iqnd", scores.softmax(-1), v)
    out = OPS.attention_grid(q, k, v, down, across, scale=0.3)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=0)


def test_a_convolution_has_zeros_around_it_and_groups() -> None:
    x = torch.ones(1, 3, 3, 2)
    weight = torch.stack([torch.ones(1, 3, 3), 2 * torch.ones(1, 3, 3)])
    out = OPS.conv2d(x, weight, torch.tensor([0.0, 1.0]), stride=2, padding=1, groups=2)
    assert out[..., 0].tolist() == [[[4, 4], [4, 4]]] and out[..., 1].tolist() == [[[9, 9], [9, 9]]]
    assert out.is_contiguous()
