"""By how much a token of an answer was better than another; two ways to compute the same part at ties."""

import torch
from loop_engine import LoopEngine

from engines.sampling.noise import gumbel_noise, noise_key

# Differences of log-probabilities: float32; bf16 with logits of up to 8, which are 2^-5 apart.
TIES = {"cpu": 1e-3, "cuda": 0.25}


def lead(one: LoopEngine, name: str, place: int, other: int, *, seed: int, temperature: float) -> float:
    """How much better the token at a place was than another, in log-probability, its noise included.

    The answer must have been asked for with the logprobs of the whole vocabulary.
    """
    found = one.logprobs[name][place]
    score = dict(zip(found.top_ids, found.top_logprobs, strict=True))
    if temperature:
        noise = gumbel_noise(torch.tensor([noise_key(seed, place)]), len(score))[0] * temperature
        score = {token: logprob + float(noise[token]) for token, logprob in score.items()}
    return score[one.tokens[name][place]] - score[other]


def first_difference(mine: list[int], theirs: list[int]) -> int | None:
    """Return the first place at which answers of one length differ; None: they are equal."""
    pairs = enumerate(zip(mine, theirs, strict=True))
    return next((place for place, (one, other) in pairs if one != other), None)
