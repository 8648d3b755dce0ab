"""Sampled rows as a device chooses them by itself: all that a row asks for, in one piece of memory.

    host ── one copy ──▶ [ a CHOICE a row | edits, mask | edits, mask | ... ]    a row has its own's addresses

So a recorded step needs no more room of its own than a CHOICE a row. The torch sampler takes the same from
`engines/sampling/sampling_rows.py`.

Legend: S sampled rows, C words of a CHOICE.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.sampling.logit_edits import edits_of, mask_of
from engines.sampling.noise import noise_keys
from engines.sampling.penalties import TokenCounts, penalized_rows
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
        ("mask", np.int64),  # address of a bit an id; 0: all may come
        ("edits", np.int64),  # address of an EDIT each
        ("num_edits", np.int64),
    ]
)
CHOICE_WORDS = CHOICE.itemsize // 8
# Added to a logit, whose bit in the mask is 0 then.
EDIT = np.dtype([("id", np.int32), ("value", np.float32)])
Choices = NDArray[Any]  # of CHOICE
Words = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceRows:
    """What a device needs to know of a step's sampled rows."""

    choices_SC: Tensor | None  # int64, each row a CHOICE; None: every row takes its largest logit


def choice_rows(
    chunks: Seq[Chunk], counts: TokenCounts, vocab: int, *, last_ids_S: Tensor | None = None
) -> ChoiceRows:
    """Return the rows of the sampled chunks, where `counts` lies.

    `last_ids_S` are the tokens that the step before samples; None where all are known here.
    """
    penalized = penalized_rows(chunks)
    limits = {
        row: limit
        for row, chunk in enumerate(chunks)
        if (chunk.sequence.grammar is not None or chunk.sequence.edits_logits)  # few have, and all are asked
        and (limit := _limit(chunk, vocab)) is not None
    }
    if not penalized and not limits and not any(chunk.sequence.sampling.temperature for chunk in chunks):
        return ChoiceRows(choices_SC=None)
    tables = np.zeros(len(chunks), dtype=np.int32)
    if penalized:
        tables[penalized] = np.array(counts.rows([chunks[row] for row in penalized], last_ids_S)) + 1
    num_words = len(chunks) * CHOICE_WORDS
    size = num_words + sum(len(edits) + len(mask) for edits, mask in limits.values())
    words = torch.empty(size, dtype=torch.int64, device=counts.device)
    host = torch.empty(size, dtype=torch.int64, pin_memory=counts.device.type == "cuda")
    choices = host.numpy()[:num_words].view(CHOICE)
    _fill(choices, chunks, tables, vocab)
    _fill_limits(choices, host.numpy(), limits, first=num_words, address=words.data_ptr())
    words.copy_(host, non_blocking=True)
    return ChoiceRows(choices_SC=words[:num_words].view(-1, CHOICE_WORDS))


def _limit(chunk: Chunk, vocab: int) -> tuple[Words, Words] | None:
    """Return a row's edits, and its mask without the edited ids; None where there is neither."""
    bits, edits = mask_of(chunk), edits_of(chunk, vocab)
    if bits is None and not edits:
        return None
    size = -(-vocab // 64) * 8
    mask = np.frombuffer(b"\xff" * size if bits is None else bits.ljust(size, b"\0"), dtype=np.uint8)
    if edits:
        mask = mask.copy()
        ids = np.array(list(edits), dtype=np.int32)
        values = np.array(list(edits.values()), dtype=np.float32)
        may_come = (mask[ids // 8] >> (ids % 8) & 1).astype(bool)
        ids, values = ids[may_come], values[may_come]
        np.bitwise_and.at(mask, ids // 8, ~(1 << ids % 8).astype(np.uint8))
        found = np.empty(len(ids), dtype=EDIT)
        found["id"], found["value"] = ids, values
        return found.view(np.int64), mask.view(np.int64)
    return np.empty(0, dtype=np.int64), mask.view(np.int64)


def _fill_limits(
    choices: Choices, host: Words, limits: dict[int, tuple[Words, Words]], *, first: int, address: int
) -> None:
    """Put edits and masks from word `first` on, and their addresses into their rows."""
    for row, (edits, mask) in limits.items():
        choices["edits"][row] = address + 8 * first
        choices["num_edits"][row] = len(edits)
        choices["mask"][row] = address + 8 * (first + len(edits))
        end = first + len(edits) + len(mask)
        host[first : first + len(edits)] = edits
        host[first + len(edits) : end] = mask
        first = end


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
    choices["mask"] = choices["edits"] = choices["num_edits"] = 0
