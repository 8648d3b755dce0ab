import pytest
import torch

from engines.pytorch.joined_cells import joined_cells


def grid_of_names(side: int) -> torch.Tensor:
    """Return one tile whose patch (row, column) holds the number 10 * row + column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (10 * rows + columns).float().view(1, side * side, 1)


def test_version_2_reads_cells_row_by_row() -> None:
    cells = joined_cells(grid_of_names(4), 2, by_columns=False)[0]
    assert cells.tolist() == [[0, 1, 10, 11], [2, 3, 12, 13], [20, 21, 30, 31], [22, 23, 32, 33]]


def test_version_1_leaves_the_grid_of_cells_transposed() -> None:
    cells = joined_cells(grid_of_names(4), 2, by_columns=True)[0]
    assert cells.tolist() == [[0, 1, 10, 11], [20, 21, 30, 31], [2, 3, 12, 13], [22, 23, 32, 33]]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_every_value_is_kept_and_channels_stay_together(factor: int) -> None:
    features = torch.randn(2, 36, 5)
    cells = joined_cells(features, factor, by_columns=False)
    assert cells.shape == (2, 36 // factor**2, 5 * factor**2)
    assert torch.equal(cells[:, 0, :5], features[:, 0])
    assert torch.equal(cells.flatten().sort().values, features.flatten().sort().values)
