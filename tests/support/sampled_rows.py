"""Rows of logits through the sampler, as a step takes them."""

from collections.abc import Sequence as Seq
from typing import Any

import torch
from sequences import ends_of, sequence

from engines.sampling.next_token import sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.sampling_rows import sampling_rows
from engines.schedule.sequence import Sequence

VOCAB = 12


def counts(vocab: int = VOCAB) -> TokenCounts:
    """Return counts for eight sequences."""
    return TokenCounts(max_sequences=8, vocab=vocab, device=torch.device("cpu"))


def sampled(logits: Seq[Seq[float]], sequences: list[Sequence]) -> torch.Tensor:
    """Return what a step gives these sequences for these rows of logits."""
    table = torch.tensor(logits, dtype=torch.float32)
    return sample(table, sampling_rows(ends_of(sequences), counts(table.shape[1]), table.shape[1]))


def best(logits: list[float], outputs: Seq[int] = (), **how: Any) -> int:
    """Return the one token that a row with this output so far and these parameters takes."""
    one = sequence([0], **how)
    one.token_ids += outputs
    return int(sampled([logits], [one])[0])


def ramp(**changes: float) -> list[float]:
    """Return logits that rise with the token; `t4=9.0` changes that of token 4."""
    logits = [0.1 * token for token in range(VOCAB)]
    for name, value in changes.items():
        logits[int(name[1:])] = value
    return logits
