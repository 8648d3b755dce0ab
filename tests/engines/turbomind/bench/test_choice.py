"""What benches choose tokens with."""

import torch

from engines.turbomind.bench.choice import PADDED, VOCAB, greedy


def test_a_bench_takes_the_largest_logits_as_an_engine_does(gpu) -> None:
    logits = torch.zeros(2, PADDED, dtype=torch.bfloat16, device=gpu.device)
    logits[0, VOCAB - 1], logits[1, 7], logits[:, VOCAB:] = 2, 3, 9  # padding is no token
    assert greedy(gpu, 2)(logits[:, :VOCAB]).tolist() == [VOCAB - 1, 7]
