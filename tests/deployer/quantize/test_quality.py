from dataclasses import replace

import pytest
import torch

from deployer.quantize.quality import quality_of
from engines.quant.judge_answers import JudgedAnswers
from engines.quant.next_tokens import NextTokens

YES, NO = True, False


def judged() -> JudgedAnswers:
    """Three answers of two tokens: one lost, one gained, one right before and after."""
    return JudgedAnswers(
        tokens=NextTokens(
            losses_before_S=torch.tensor([0.1, 0.1, 2.0, 0.1, 0.0, 0.0]),
            losses_after_S=torch.tensor([0.1, 1.1, 0.5, 0.1, 0.0, 0.0]),
            divergences_S=torch.tensor([0.0, 0.6, 0.6, 0.0, 0.0, 0.0]),
            moved_S=torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0, 0.0]),
            differs_S=torch.tensor([NO, YES, YES, NO, NO, NO]),
            right_before_S=torch.tensor([YES, YES, NO, YES, YES, YES]),
            right_after_S=torch.tensor([YES, NO, YES, YES, YES, YES]),
        ),
        owners_S=torch.tensor([0, 0, 2, 2, 1, 1]),
        num_questions=3,
    )


def test_an_answer_is_right_if_each_of_its_tokens_is() -> None:
    found = quality_of("awq", judged(), num_bytes=5, nearest=None)
    assert (found.right, found.lost, found.gained, found.other_answers) == (2, 1, 1, 2)


def test_errors_are_those_of_sums_over_questions() -> None:
    found = quality_of("awq", judged(), num_bytes=5, nearest=None)
    assert found.loss == pytest.approx(1.8 / 6)
    assert found.loss_change == pytest.approx(-0.5 / 6)
    assert found.divergence == pytest.approx(0.2)
    changes = torch.tensor([1.0, 0.0, -1.5])
    assert found.loss_change_error == pytest.approx(float(changes.std()) * 3**0.5 / 6)


def test_what_is_moved_is_held_to_rounding_to_nearest_question_by_question() -> None:
    nearest = judged()
    nearest = replace(nearest, tokens=replace(nearest.tokens, moved_S=nearest.tokens.moved_S + 0.1))
    found = quality_of("awq", judged(), num_bytes=5, nearest=nearest)
    assert found.moved == pytest.approx(1 / 6)
    assert found.beside_nearest is not None
    assert found.beside_nearest.moved == pytest.approx(-0.1)
    assert found.beside_nearest.moved_error == pytest.approx(0, abs=1e-6)
    assert (found.beside_nearest.right, found.beside_nearest.right_error) == (0, 0)


def test_answers_that_only_one_has_right_are_counted_with_their_error() -> None:
    nearest = judged()
    none_right = torch.zeros_like(nearest.tokens.right_after_S)
    nearest = replace(nearest, tokens=replace(nearest.tokens, right_after_S=none_right))
    found = quality_of("awq", judged(), num_bytes=5, nearest=nearest).beside_nearest
    assert found is not None
    assert found.right == 2
    assert found.right_error == pytest.approx(float(torch.tensor([0.0, 1.0, 1.0]).std()) * 3**0.5)
    assert found.divergence == found.divergence_error == 0
