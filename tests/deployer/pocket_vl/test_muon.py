import torch

from deployer.pocket_vl.muon import Muon, orthogonalised


def test_singular_values_come_out_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 24, 40), (2, 64, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
        assert values.min() > 0.3 and values.max() < 1.4


def test_matrices_of_any_shape_go_down_the_slope_together() -> None:
    torch.manual_seed(0)
    wanted = [torch.randn(8, 8), torch.randn(8, 8), torch.randn(4, 12)]
    matrices = [torch.zeros_like(matrix, requires_grad=True) for matrix in wanted]
    muon = Muon(matrices, weight_decay=0.0)
    losses = []
    for step in range(60):
        loss = sum(((m - w) ** 2).sum() for m, w in zip(matrices, wanted, strict=True))
        assert isinstance(loss, torch.Tensor)
        for matrix in matrices:
            matrix.grad = None
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        losses.append(loss.item())
        muon.step(0.8 * (1 - step / 60))
    assert losses[-1] < 0.05 * losses[0]


def test_weight_decay_shrinks_what_has_no_slope() -> None:
    matrix = torch.ones(4, 4, requires_grad=True)
    matrix.grad = torch.zeros(4, 4)
    Muon([matrix], weight_decay=0.5).step(0.1)
    torch.testing.assert_close(matrix.detach(), torch.full((4, 4), 0.95))
