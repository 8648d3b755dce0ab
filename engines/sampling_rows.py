"""What sequences ask of their next token, gathered into tensors: one row a sampled sequence.

Only what some row asks for is built; a step whose rows are all plainly greedy carries nothing.

Legend: S sampled rows, R a part of them, E edits of single logits, W words of 32 tokens.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log

import torch
from torch import Tensor

from engines.noise import noise_key
from engines.penalties import TokenCounts
from engines.sequence import Sequence


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
class SamplingRows:
    """All that `engines.sampling.sample` needs to know of the sequences."""

    penalties: Penalties | None
    edits: Edits | None
    masks: Masks | None
    draws: Draws | None
    logprob_rows: tuple[int, ...]  # rows whose log-probabilities are wanted
    num_alternatives: int  # the most that one of them asks for


def sampling_rows(sequences: Seq[Sequence], counts: TokenCounts, vocab: int) -> SamplingRows:
    """Gather the parameters of the sampled sequences; tensors lie where `counts` lies."""
    device = counts.device
    wanted = [one.sampling.logprobs for one in sequences]
    return SamplingRows(
        penalties=_penalties(sequences, counts),
        edits=_edits(sequences, device),
        masks=_masks(sequences, device),
        draws=_draws(sequences, vocab, device),
        logprob_rows=tuple(row for row, number in enumerate(wanted) if number is not None),
        num_alternatives=max((number for number in wanted if number is not None), default=0),
    )


def _penalties(sequences: Seq[Sequence], counts: TokenCounts) -> Penalties | None:
    rows = [row for row, one in enumerate(sequences) if _is_penalized(one)]
    if not rows:
        return None
    chosen = [sequences[row] for row in rows]
    seen_RV, outputs_RV = counts.of(chosen)
    return Penalties(
        rows_R=torch.tensor(rows).to(counts.device),
        repetition_R1=_column([one.sampling.repetition_penalty for one in chosen], counts.device),
        presence_R1=_column([one.sampling.presence_penalty for one in chosen], counts.device),
        frequency_R1=_column([one.sampling.frequency_penalty for one in chosen], counts.device),
        seen_RV=seen_RV,
        outputs_RV=outputs_RV,
    )


def _is_penalized(sequence: Sequence) -> bool:
    how = sequence.sampling
    return (how.repetition_penalty, how.presence_penalty, how.frequency_penalty) != (1.0, 0.0, 0.0)


def _edits(sequences: Seq[Sequence], device: torch.device) -> Edits | None:
    edits = [(row, *edit) for row, one in enumerate(sequences) for edit in _edits_of(one).items()]
    if not edits:
        return None
    rows, ids, values = zip(*edits, strict=True)
    return Edits(
        rows_E=torch.tensor(rows).to(device),
        ids_E=torch.tensor(ids).to(device),
        values_E=torch.tensor(values, dtype=torch.float32).to(device),
    )


def _edits_of(sequence: Sequence) -> dict[int, float]:
    """Return the change of each logit that is not left alone."""
    edits = dict(sequence.sampling.logit_bias)
    for token in (*_too_early(sequence), *_completes_bad_sequence(sequence)):
        edits[token] = -inf
    return edits


def _too_early(sequence: Sequence) -> tuple[int, ...]:
    """Return the tokens that would end a sequence before `min_new_tokens`."""
    how = sequence.sampling
    if sequence.num_outputs >= how.min_new_tokens:
        return ()
    return how.stop_token_ids if how.ignore_eos else (*how.stop_token_ids, *how.eos_token_ids)


def _completes_bad_sequence(sequence: Sequence) -> Iterator[int]:
    """Yield the last token of each bad sequence whose other tokens end the output."""
    tokens, first_output = sequence.token_ids, sequence.num_prompt_tokens
    for *before, last in sequence.sampling.bad_sequences:
        start = len(tokens) - len(before)
        if start >= first_output and tokens[start:] == before:
            yield last


def _masks(sequences: Seq[Sequence], device: torch.device) -> Masks | None:
    masks = [
        (row, one.grammar.mask(one.token_ids[one.num_prompt_tokens :]))
        for row, one in enumerate(sequences)
        if one.grammar is not None
    ]
    if not masks:
        return None
    rows, bits = zip(*masks, strict=True)
    words_RW = torch.frombuffer(bytearray(b"".join(bits)), dtype=torch.int32).view(len(rows), -1)
    return Masks(rows_R=torch.tensor(rows).to(device), words_RW=words_RW.to(device))


def _draws(sequences: Seq[Sequence], vocab: int, device: torch.device) -> Draws | None:
    rows = [row for row, one in enumerate(sequences) if one.sampling.temperature > 0]
    if not rows:
        return None
    chosen = [sequences[row] for row in rows]
    how = [one.sampling for one in chosen]
    top_k = [min(one.top_k or vocab, vocab) for one in how]
    by_order = [k < vocab or one.top_p < 1 for k, one in zip(top_k, how, strict=True)]
    return Draws(
        rows_R=torch.tensor(rows).to(device),
        temperature_R1=_column([one.temperature for one in how], device),
        top_k_R1=torch.tensor(top_k).unsqueeze(1).to(device),
        top_p_R1=_column([one.top_p for one in how], device),
        log_min_p_R1=_column([log(one.min_p) if one.min_p > 0 else -inf for one in how], device),
        keys_R2=torch.tensor([noise_key(one.sampling.seed, one.num_outputs) for one in chosen]).to(device),
        num_candidates=max(top_k) if max(top_k) < vocab else None,
        restricts_order=any(by_order),
    )


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1).to(device)
