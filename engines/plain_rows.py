"""Sampled rows that a device chooses by itself: a temperature, cuts and noise, and nothing else.

A step whose rows are all plain can be chosen inside a recorded step; any other row brings tensors of its own
shape (`engines/sampling_rows.py`).

Legend: S sampled rows.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log

import numpy as np
import torch
from torch import Tensor

from engines.batch_plan import Chunk
from engines.noise import noise_key

# A row as `kernels/choose_token.cu` reads it.
CHOICE = np.dtype(
    [
        ("key_low", np.int64),  # `noise_key`
        ("key_high", np.int64),
        ("temperature", np.float32),  # 0: the largest logit
        ("log_min_p", np.float32),  # the lowest (logit - largest) / temperature that is kept; -inf: all
        ("top_p", np.float32),
        ("top_k", np.int32),  # the vocabulary's size: all
    ]
)
CHOICE_WORDS = CHOICE.itemsize // 8


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainRows:
    """What a device needs to know of rows that are all plain."""

    choices_S4: Tensor | None  # int64, each row a CHOICE; None: every row takes its largest logit


def plain_rows(chunks: Seq[Chunk], vocab: int, device: torch.device) -> PlainRows | None:
    """Return the rows of the sampled chunks where all are plain, None where one is not."""
    if not all(chunk.sequence.is_plain for chunk in chunks):
        return None
    if not any(chunk.sequence.sampling.temperature for chunk in chunks):
        return PlainRows(choices_S4=None)
    host_S4 = torch.empty(len(chunks), CHOICE_WORDS, dtype=torch.int64, pin_memory=device.type == "cuda")
    host_S4.numpy().view(CHOICE)[:, 0] = [_choice(chunk, vocab) for chunk in chunks]
    return PlainRows(choices_S4=host_S4.to(device, non_blocking=True))


def _choice(chunk: Chunk, vocab: int) -> tuple[int, int, float, float, float, int]:
    how = chunk.sequence.sampling
    log_min_p = log(how.min_p) if how.min_p > 0 else -inf
    top_k = min(how.top_k or vocab, vocab)
    return *noise_key(how.seed, chunk.num_outputs), how.temperature, log_min_p, how.top_p, top_k
