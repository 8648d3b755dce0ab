"""Tiles made of stretches hold their words in order."""

import torch

from engines.quant.packed_tiles import tiles_of


def test_stretches_stand_one_behind_another_along_the_outputs() -> None:
    words = torch.arange(2 * 5 * 4 * 3, dtype=torch.int32).view(2, 5, 4, 3)
    tiles = tiles_of(iter([words[:, :2], words[:, 2:]]), 2, 5, 48, device=torch.device("cpu"))
    assert tiles.shape == (2, 5, 48)
    assert torch.equal(tiles.view(torch.int32).view(2, 5, 4, 3), words)
