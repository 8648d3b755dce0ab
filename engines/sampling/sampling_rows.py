"""What sequences ask of their next token, gathered into tensors: one row a sampled sequence.

Only what some row asks for is built; a step whose rows are all plainly greedy carries nothing.

Legend: S sampled rows, R a part of them, E edits of single logits, W words of 32 tokens.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log

import numpy as np
import torch
from torch import Tensor

from engines.sampling.logit_edits import edits_of, mask_of
from engines.sampling.noise import noise_key
from engines.sampling.penalties import TokenCounts, penalized_rows
from engines.schedule.batch_plan import Chunk
from engines.steps.host_copy import on_device


@dataclass(frozen=True, kw_only=True, slots=True)
class Edits:
    """Numbers that are added to single logits: biases, and -inf for what must not come."""

    rows_E: Tensor
    ids_E: Tensor
    values_E: Tensor  # float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Masks:
    """Rows that may only take some tokens."""

    rows_R: Tensor
    words_RW: Tensor  # int32, one bit an id, lowest first; W = ceil(V / 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Penalties:
    """Rows that are penalized for what they contain."""

    rows_R: Tensor
    repetition_R1: Tensor
    presence_R1: Tensor
    frequency_R1: Tensor
    seen_RV: Tensor  # bool, prompt and output
    outputs_RV: Tensor  # int32, how often in the output


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """Rows that are drawn instead of maximized."""

    rows_R: Tensor
    temperature_R1: Tensor
    top_k_R1: Tensor  # int64, at least 1
    top_p_R1: Tensor
    log_min_p_R1: Tensor  # -inf: all
    keys_R2: Tensor  # int64, `noise_key`
    num_candidates: int | None  # the largest top_k; None: some row needs the whole vocabulary in order
    restricts_order: bool  # some row has top_k or top_p


@dataclass(frozen=True, kw_only=True, slots=True)
class LogprobRows:
    """Rows whose log-probabilities are wanted."""

    rows: tuple[int, ...]
    num_alternatives: int  # the most that one of them asks for


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRows:
    """All that `engines.sampling.next_token.sample` needs to know of the sequences."""

    penalties: Penalties | None
    edits: Edits | None
    masks: Masks | None
    draws: Draws | None


def sampling_rows(
    chunks: Seq[Chunk], counts: TokenCounts, vocab: int, *, last_ids_S: Tensor | None = None
) -> SamplingRows:
    """Gather the parameters of the sampled chunks; tensors lie where `counts` lies.

    `last_ids_S` are the tokens that the step before samples; None where all are known here.
    """
    device = counts.device
    return SamplingRows(
        penalties=_penalties(chunks, counts, last_ids_S),
        edits=_edits(chunks, vocab, device),
        masks=_masks(chunks, device),
        draws=_draws(chunks, vocab, device),
    )


def logprob_rows(chunks: Seq[Chunk]) -> LogprobRows | None:
    """Return the rows whose log-probabilities are wanted, None where there are none."""
    wanted = {
        row: number
        for row, chunk in enumerate(chunks)
        if (number := chunk.sequence.sampling.logprobs) is not None
    }
    return LogprobRows(rows=tuple(wanted), num_alternatives=max(wanted.values())) if wanted else None


def _penalties(chunks: Seq[Chunk], counts: TokenCounts, last_ids_S: Tensor | None) -> Penalties | None:
    rows = penalized_rows(chunks)
    if not rows:
        return None
    chosen = [chunks[row] for row in rows]
    how = [chunk.sequence.sampling for chunk in chosen]
    seen_RV, outputs_RV = counts.of(chosen, last_ids_S)
    return Penalties(
        rows_R=on_device(rows, counts.device),
        repetition_R1=_column([one.repetition_penalty for one in how], counts.device),
        presence_R1=_column([one.presence_penalty for one in how], counts.device),
        frequency_R1=_column([one.frequency_penalty for one in how], counts.device),
        seen_RV=seen_RV,
        outputs_RV=outputs_RV,
    )


def _edits(chunks: Seq[Chunk], vocab: int, device: torch.device) -> Edits | None:
    edits = [(row, *edit) for row, chunk in enumerate(chunks) for edit in edits_of(chunk, vocab).items()]
    if not edits:
        return None
    rows, ids, values = zip(*edits, strict=True)
    return Edits(
        rows_E=on_device(rows, device),
        ids_E=on_device(ids, device),
        values_E=on_device(values, device, torch.float32),
    )


def _masks(chunks: Seq[Chunk], device: torch.device) -> Masks | None:
    masks = [(row, mask) for row, chunk in enumerate(chunks) if (mask := mask_of(chunk)) is not None]
    if not masks:
        return None
    rows, bits = zip(*masks, strict=True)
    words = torch.empty(sum(map(len, bits)) // 4, dtype=torch.int32, pin_memory=device.type == "cuda")
    words.numpy()[:] = np.frombuffer(b"".join(bits), dtype=np.int32)
    return Masks(
        rows_R=on_device(rows, device),
        words_RW=words.to(device, non_blocking=True).view(len(rows), -1),
    )


def _draws(chunks: Seq[Chunk], vocab: int, device: torch.device) -> Draws | None:
    rows = [row for row, chunk in enumerate(chunks) if chunk.sequence.sampling.temperature > 0]
    if not rows:
        return None
    chosen = [chunks[row] for row in rows]
    how = [chunk.sequence.sampling for chunk in chosen]
    top_k = [min(one.top_k or vocab, vocab) for one in how]
    by_order = [k < vocab or one.top_p < 1 for k, one in zip(top_k, how, strict=True)]
    keys = [noise_key(chunk.sequence.sampling.seed, chunk.num_outputs) for chunk in chosen]
    return Draws(
        rows_R=on_device(rows, device),
        temperature_R1=_column([one.temperature for one in how], device),
        top_k_R1=on_device(top_k, device).unsqueeze(1),
        top_p_R1=_column([one.top_p for one in how], device),
        log_min_p_R1=_column([log(one.min_p) if one.min_p > 0 else -inf for one in how], device),
        keys_R2=on_device(keys, device),
        num_candidates=max(top_k) if max(top_k) < vocab else None,
        restricts_order=any(by_order),
    )


def _column(values: list[float], device: torch.device) -> Tensor:
    return on_device(values, device, torch.float32).unsqueeze(1)
