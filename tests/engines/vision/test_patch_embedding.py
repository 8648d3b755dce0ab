"""Patches, class token and positions in one product: what a convolution and sums apart give."""

import pytest
import torch
import torch.nn.functional as F

from engines.pytorch.ops_torch import TorchOps
from engines.vision.passes import Normaliser
from engines.vision.towers.patch_embedding import PatchEmbedding

SIDE, PATCH, HIDDEN = 28, 14, 24


@pytest.mark.parametrize(
    ("has_bias", "has_class"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_rows_are_class_token_and_convolution_at_their_positions(has_bias: bool, has_class: bool) -> None:
    weight, bias, token = torch.randn(HIDDEN, 3, PATCH, PATCH), torch.randn(HIDDEN), torch.randn(HIDDEN)
    positions = torch.randn(4 + has_class, HIDDEN)
    embedding = PatchEmbedding(
        weight_HCpp=weight,
        bias_H=bias if has_bias else None,
        class_token_H=token if has_class else None,
        positions_LH=positions,
        ops=TorchOps(),
    )
    pixels = torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8)
    normaliser = Normaliser((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), device=pixels.device, dtype=torch.float32)
    numbers = normaliser(pixels)
    maps = F.conv2d(numbers.permute(0, 3, 1, 2), weight, bias if has_bias else None, stride=PATCH)
    wanted = maps.flatten(2).transpose(1, 2)
    if has_class:
        wanted = torch.cat([token.expand(3, 1, HIDDEN), wanted], dim=1)
    torch.testing.assert_close(embedding(numbers), wanted + positions, atol=1e-4, rtol=1e-5)
    assert torch.equal(embedding(normaliser.later(pixels)), embedding(numbers))
    others = torch.randn(3, len(positions), HIDDEN)  # of each picture its own
    torch.testing.assert_close(embedding(numbers, others), wanted + others, atol=1e-4, rtol=1e-5)


def test_a_class_token_is_not_rounded_by_the_product() -> None:
    weight, bias, token = torch.randn(HIDDEN, 3, 2, 2), torch.randn(HIDDEN), torch.randn(HIDDEN).bfloat16()
    embedding = PatchEmbedding(
        weight_HCpp=weight.bfloat16(),
        bias_H=bias.bfloat16(),
        class_token_H=token,
        positions_LH=torch.zeros(5, HIDDEN, dtype=torch.bfloat16),
        ops=TorchOps(),
    )
    assert torch.equal(embedding(torch.randn(1, 4, 4, 3).bfloat16())[0, 0], token)
