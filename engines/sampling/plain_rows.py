"""Sampled rows that a device chooses by itself: penalties, a temperature, cuts and noise, and nothing else.

A step whose rows are all plain can be chosen inside a recorded step; any other row brings tensors of its own
shape (`engines/sampling/sampling_rows.py`).

Legend: S sampled rows.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.sampling.noise import noise_keys
from engines.sampling.penalties import TokenCounts
from engines.schedule.batch_plan import Chunk

# A row as `kernels/choose_token.cu` reads it.
CHOICE = np.dtype(
    [
        ("key_low", np.int64),  # `noise_key`
        ("key_high", np.int64),
        ("temperature", np.float32),  # 0: the largest logit
        ("log_min_p", np.float32),  # the lowest (logit - largest) / temperature that is kept; -inf: all
        ("top_p", np.float32),
        ("top_k", np.int32),  # the vocabulary's size: all
        ("repetition", np.float32),
        ("presence", np.float32),
        ("frequency", np.float32),
        ("counts", np.int32),  # row of the tables of `TokenCounts`, from 1 on; 0: no penalties
    ]
)
CHOICE_WORDS = CHOICE.itemsize // 8
Choices = NDArray[Any]  # of CHOICE


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainRows:
    """What a device needs to know of rows that are all plain."""

    choices_S6: Tensor | None  # int64, each row a CHOICE; None: every row takes its largest logit


def plain_rows(
    chunks: Seq[Chunk], counts: TokenCounts, vocab: int, *, last_ids_S: Tensor | None = None
) -> PlainRows | None:
    """Return the rows of the sampled chunks where all are plain, None where one is not.

    `last_ids_S` are the tokens that the step before samples; None where all are known here.
    """
    if not all(chunk.sequence.is_plain for chunk in chunks):
        return None
    penalized = [row for row, chunk in enumerate(chunks) if chunk.sequence.is_penalized]
    if not penalized and not any(chunk.sequence.sampling.temperature for chunk in chunks):
        return PlainRows(choices_S6=None)
    tables = np.zeros(len(chunks), dtype=np.int32)
    if penalized:
        tables[penalized] = np.array(counts.rows([chunks[row] for row in penalized], last_ids_S)) + 1
    device = counts.device
    host_S6 = torch.empty(len(chunks), CHOICE_WORDS, dtype=torch.int64, pin_memory=device.type == "cuda")
    _fill(host_S6.numpy().view(CHOICE)[:, 0], chunks, tables, vocab)
    return PlainRows(choices_S6=host_S6.to(device, non_blocking=True))


def _fill(choices: Choices, chunks: Seq[Chunk], tables: NDArray[np.int32], vocab: int) -> None:
    """Write the fields of all rows; by column, as a step of many rows waits for it."""
    how = [chunk.sequence.sampling for chunk in chunks]
    keys = noise_keys([one.seed for one in how], [chunk.num_outputs for chunk in chunks])
    choices["key_low"], choices["key_high"] = keys[:, 0], keys[:, 1]
    choices["temperature"] = [one.temperature for one in how]
    choices["log_min_p"] = [log(one.min_p) if one.min_p > 0 else -inf for one in how]
    choices["top_p"] = [one.top_p for one in how]
    choices["top_k"] = [min(one.top_k or vocab, vocab) for one in how]
    choices["repetition"] = [one.repetition_penalty for one in how]
    choices["presence"] = [one.presence_penalty for one in how]
    choices["frequency"] = [one.frequency_penalty for one in how]
    choices["counts"] = tables
