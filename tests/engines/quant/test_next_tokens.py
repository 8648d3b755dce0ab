import math

import pytest
import torch

from engines.quant.next_tokens import compare, joined


def test_equal_distributions_have_no_distance() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    found = compare(logits, logits + 3, torch.tensor([0, 1, 2, 3]))
    assert found.divergences_S.max() < 1e-6
    assert found.moved_S.max() < 1e-6
    assert not found.differs_S.any()
    assert found.perplexity_before == pytest.approx(found.perplexity_after)


def test_losses_divergence_and_choice_are_those_of_the_definition() -> None:
    before, after = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.25, 0.75]])
    found = compare(before.log(), after.log(), torch.tensor([0]))
    assert found.perplexity_before == pytest.approx(1 / 0.75)
    assert found.perplexity_after == pytest.approx(1 / 0.25)
    assert float(found.divergences_S) == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1 / 3))
    assert float(found.moved_S) == pytest.approx(0.5)
    assert found.differs_S.tolist() == [True]
    assert (found.right_before_S.tolist(), found.right_after_S.tolist()) == ([True], [False])


def test_parts_are_joined_in_order() -> None:
    parts = [compare(torch.eye(2), torch.eye(2).flip(0), torch.tensor([n, n])) for n in (0, 1)]
    both = joined(parts)
    assert both.losses_before_S.tolist() == [*parts[0].losses_before_S, *parts[1].losses_before_S]
    assert len(both.differs_S) == 4
