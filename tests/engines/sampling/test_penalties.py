"""Repetition, presence and frequency: what a sequence holds already changes its logits."""

import torch
from sampled_rows import best
from sequences import ends_of, sequence

from engines.sampling.penalties import TokenCounts


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_prompt_and_output() -> None:
    assert best([2.0, 1.5, 0.0], repetition_penalty=1.5) == 1  # 0 is in the prompt: 2 / 1.5
    assert best([-9.0, 2.0, 1.5], outputs=[1], repetition_penalty=1.5) == 2
    assert best([-1.0, -1.2, -9.0], repetition_penalty=1.5) == 1  # -1 * 1.5


def test_presence_penalty_counts_an_output_once_and_leaves_the_prompt_alone() -> None:
    assert best([1.0, 0.5], presence_penalty=0.9) == 0
    assert best([1.0, 0.5], outputs=[0], presence_penalty=0.4) == 0
    assert best([1.0, 0.5], outputs=[0, 0, 0], presence_penalty=0.4) == 0
    assert best([1.0, 0.5], outputs=[0], presence_penalty=0.6) == 1


def test_frequency_penalty_grows_with_each_repetition() -> None:
    assert best([1.0, 0.5], outputs=[0], frequency_penalty=0.3) == 0
    assert best([1.0, 0.5], outputs=[0, 0], frequency_penalty=0.3) == 1


def test_negative_penalties_reward_repetition() -> None:
    assert best([1.0, 0.5], outputs=[1], presence_penalty=-0.6) == 1


def test_counts_follow_a_sequence_from_step_to_step_and_past_others() -> None:
    table = TokenCounts(max_sequences=2, vocab=4, device=torch.device("cpu"))
    several = [sequence([0, 1]) for _ in range(3)]
    for round_ in range(3):
        for one in several:  # three sequences share two rows
            seen, outputs = table.of(ends_of([one]), None)
            assert outputs[0].tolist() == [0, 0, round_, 0]
            assert seen[0].tolist() == [True, True, round_ > 0, False]
            one.token_ids.append(2)
    both = table.of(ends_of(several[:2]), None)[1]
    assert both.tolist() == [[0, 0, 3, 0], [0, 0, 3, 0]]
