"""From logits to the next token of every sampled row, on the device and without waiting for it.

In this order: repetition, presence and frequency penalties; biases and bad tokens; the masks of grammars;
then for rows with a temperature: multiply by its inverse, keep top_k, of these top_p, of these min_p, and
draw with the noise of `engines/sampling/noise.py`. Rows without one take the largest logit; of equal ones
the lowest id, on every device. Log-probabilities are those of the raw logits.

The twin of `kernels/choose_token.cu`, which chooses where steps are recorded.

A cut keeps every token that ties with the last one kept, so it is a threshold and does not depend on a
sort's order.

Legend: S sampled rows, R a part of them, V vocabulary, K the best K tokens in order, A alternatives.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.sampling.noise import gumbel_noise
from engines.sampling.sampling_rows import Draws, Edits, LogprobRows, Masks, Penalties, SamplingRows
from engines.steps.host_copy import on_device

LOWEST_TOP_P = 1e-9  # the best token always stays
LOWEST_TEMPERATURE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Logprobs:
    """Log-probabilities of one token a row, and of the likeliest."""

    chosen_R: Tensor
    top_RA: Tensor
    top_ids_RA: Tensor


def sample(logits_SV: Tensor, rows: SamplingRows) -> Tensor:
    """Choose one token a row of logits, of any float dtype; they are not changed.

    Returns ids int64 [S]; one equal to the vocabulary's size says that the row held a NaN.
    """
    changes = (rows.penalties, rows.edits, rows.masks, rows.draws)
    adjusted_SV = logits_SV if all(x is None for x in changes) else logits_SV.float()
    if rows.penalties is not None:
        adjusted_SV = _penalized(adjusted_SV, rows.penalties)
    if rows.edits is not None:
        adjusted_SV = _edited(adjusted_SV, rows.edits)
    if rows.masks is not None:
        adjusted_SV = _masked(adjusted_SV, rows.masks)
    ids_S = first_argmax(adjusted_SV)
    if rows.draws is not None:
        drawn_R = _drawn(adjusted_SV[rows.draws.rows_R], rows.draws)
        ids_S = ids_S.index_copy(0, rows.draws.rows_R, drawn_R)
    return ids_S


def row_logprobs(logits_SV: Tensor, ids_S: Tensor, wanted: LogprobRows) -> Logprobs:
    """Return the log-probabilities of the tokens chosen in some rows, and the likeliest of these."""
    rows_R = on_device(wanted.rows, logits_SV.device)
    chosen_R = ids_S[rows_R].clamp(max=logits_SV.shape[1] - 1)
    return token_logprobs(logits_SV[rows_R], chosen_R, num_alternatives=wanted.num_alternatives)


def token_logprobs(logits_RV: Tensor, ids_R: Tensor, *, num_alternatives: int) -> Logprobs:
    """Return the log-probabilities of one token a row, and the likeliest of the row."""
    logprobs_RV = logits_RV.float().log_softmax(dim=1)
    top = logprobs_RV.topk(num_alternatives, dim=1)
    chosen_R1 = logprobs_RV.gather(1, ids_R.unsqueeze(1))
    return Logprobs(chosen_R=chosen_R1.squeeze(1), top_RA=top.values, top_ids_RA=top.indices)


def first_argmax(x_SV: Tensor) -> Tensor:
    """Return the lowest id of a largest value, V for a row with a NaN; `torch.argmax` promises no order."""
    vocab = x_SV.shape[1]
    id_V = torch.arange(vocab, device=x_SV.device)
    best_S1 = x_SV.amax(dim=1, keepdim=True)
    return torch.where(x_SV == best_S1, id_V, vocab).amin(dim=1)


def _penalized(x_SV: Tensor, penalties: Penalties) -> Tensor:
    x_RV = x_SV[penalties.rows_R]
    factor_RV = torch.where(x_RV > 0, penalties.repetition_R1.reciprocal(), penalties.repetition_R1)
    x_RV = torch.where(penalties.seen_RV, x_RV * factor_RV, x_RV)
    x_RV = x_RV - penalties.presence_R1 * (penalties.outputs_RV > 0)
    x_RV = x_RV - penalties.frequency_R1 * penalties.outputs_RV
    return x_SV.index_copy(0, penalties.rows_R, x_RV)


def _edited(x_SV: Tensor, edits: Edits) -> Tensor:
    where = (edits.rows_E, edits.ids_E)
    return x_SV.index_put(where, x_SV[where] + edits.values_E)


def _masked(x_SV: Tensor, masks: Masks) -> Tensor:
    """Leave -inf where a row's bit is 0."""
    bit_32 = torch.arange(32, dtype=torch.int32, device=x_SV.device)
    allowed_RV = (masks.words_RW.unsqueeze(2) >> bit_32 & 1).flatten(1)[:, : x_SV.shape[1]] == 1
    x_RV = torch.where(allowed_RV, x_SV[masks.rows_R], -torch.inf)
    return x_SV.index_copy(0, masks.rows_R, x_RV)


def _drawn(x_RV: Tensor, draws: Draws) -> Tensor:
    best_R1 = x_RV.amax(dim=1, keepdim=True)
    x_RV = x_RV - best_R1.clamp(min=torch.finfo(x_RV.dtype).min)  # all masked: stays -inf, not NaN
    x_RV = x_RV * draws.temperature_R1.clamp(min=LOWEST_TEMPERATURE).reciprocal()
    cut_R1 = draws.log_min_p_R1
    if draws.restricts_order:
        cut_R1 = torch.maximum(cut_R1, _order_cut(x_RV, draws))
    noisy_RV = x_RV + gumbel_noise(draws.keys_R2, x_RV.shape[1])
    return first_argmax(torch.where(x_RV < cut_R1, -torch.inf, noisy_RV))


def _order_cut(x_RV: Tensor, draws: Draws) -> Tensor:
    """Return the smallest logit that top_k and then top_p keep."""
    num_candidates = draws.num_candidates or x_RV.shape[1]
    best_RK = x_RV.topk(num_candidates, dim=1).values
    rank_K = torch.arange(num_candidates, device=x_RV.device)
    best_RK = torch.where(rank_K < draws.top_k_R1, best_RK, -torch.inf)
    probability_RK = best_RK.softmax(dim=1)
    before_RK = probability_RK.cumsum(dim=1) - probability_RK
    kept_RK = (rank_K < draws.top_k_R1) & (before_RK < draws.top_p_R1.clamp(min=LOWEST_TOP_P))
    last_R1 = kept_RK.sum(dim=1, keepdim=True) - 1
    return best_RK.gather(1, last_R1.clamp(min=0))
