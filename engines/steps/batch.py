"""From the scheduler's plan to the tensors of one forward pass.

All indices are laid out in numpy and go to the device in one copy.

Legend: T tokens of the step, B sequences, S rows of the head (sampled, then scored), M image rows, P pages of
the longest sequence, H hidden.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots
from engines.steps.host_copy import in_one_copy
from engines.steps.step import AttentionBatch, StepInput

Ints = NDArray[Any]
Numbers = TypeVar("Numbers")  # Ints on the host, a Tensor on the device


class _Wide(NamedTuple, Generic[Numbers]):
    """What goes to the device as int64: fields of StepInput, and which tokens only the device knows."""

    token_ids_T: Numbers
    positions_T: Numbers
    rope_lens_T: Numbers
    slots_T: Numbers
    sample_rows_S: Numbers
    feature_rows_M: Numbers
    inner_rows_E: Numbers
    unknown_U: Numbers  # tokens of the step
    source_U: Numbers  # sampled rows of the step before that give them
    adapter_T: Numbers  # empty where no token runs through an adapter


class _Narrow(NamedTuple, Generic[Numbers]):
    """What goes to the device as int32: fields of AttentionBatch."""

    q_starts_B1: Numbers
    kv_lens_B: Numbers
    pages_BP: Numbers


def step_input(
    plan: BatchPlan,
    *,
    page_tokens: int,
    device: torch.device,
    features: Mapping[bytes, Tensor],
    rope_by_prompt: bool = False,
    last_ids_S: Tensor | None = None,
) -> StepInput:
    """Lay out one step; `features` has the rows [image tokens, H] of every image that the step touches.

    `last_ids_S` are the tokens that the step before samples, on the device; None where all are known here.
    """
    chunks = plan.chunks
    counts_B = np.array([chunk.num_tokens for chunk in chunks])
    starts_B1 = np.concatenate([[0], np.cumsum(counts_B)])
    sequence_T = np.repeat(np.arange(len(chunks)), counts_B)
    firsts_B = np.array([chunk.start for chunk in chunks])
    indices_T = np.arange(starts_B1[-1]) + (firsts_B - starts_B1[:-1])[sequence_T]
    pages_BP = page_table(chunks)
    rows_M, inner_M, features_MH = _image_rows(chunks[plan.num_decodes :], plan.num_decodes, features)
    unknown_U, source_U = _unknown(chunks, starts_B1)
    narrow = _Narrow(q_starts_B1=starts_B1, kv_lens_B=firsts_B + counts_B, pages_BP=pages_BP)
    wide = _Wide(
        token_ids_T=_token_ids(chunks),
        positions_T=_positions(chunks, starts_B1, indices_T),
        rope_lens_T=_rope_lens(chunks, sequence_T, indices_T, by_prompt=rope_by_prompt),
        slots_T=pages_BP[sequence_T, indices_T // page_tokens] * page_tokens + indices_T % page_tokens,
        sample_rows_S=_rows_of_the_head(plan, starts_B1),
        feature_rows_M=rows_M,
        inner_rows_E=rows_M[inner_M],
        unknown_U=unknown_U,
        source_U=source_U,
        adapter_T=_adapters(chunks, sequence_T),
    )
    wide_there, narrow_there = in_one_copy(wide, narrow, device)
    there, attended = _Wide(*wide_there), _Narrow(*narrow_there)
    _fill_in(there.token_ids_T, there.unknown_U, there.source_U, last_ids_S)
    return StepInput(
        token_ids_T=there.token_ids_T,
        positions_T=there.positions_T,
        rope_lens_T=there.rope_lens_T,
        attention=_attention_batch(plan, attended, there.slots_T, host=narrow),
        sample_rows_S=there.sample_rows_S,
        feature_rows_M=there.feature_rows_M,
        features_MH=features_MH,
        adapter_T=there.adapter_T if len(there.adapter_T) else None,
        inner_rows_E=None if features_MH is None else there.inner_rows_E,
    )


def _attention_batch(
    plan: BatchPlan, there: _Narrow[Tensor], slots_T: Tensor, *, host: _Narrow[Ints]
) -> AttentionBatch:
    """Return what attention reads: starts, lengths, pages on the device, and what the host knows of them."""
    return AttentionBatch(
        num_decodes=plan.num_decodes,
        q_starts_B1=there.q_starts_B1,
        kv_lens_B=there.kv_lens_B,
        pages_BP=there.pages_BP,
        slots_T=slots_T,
        max_q=int(np.diff(host.q_starts_B1).max()),
        max_kv=int(host.kv_lens_B.max()),
        chunk_lens=tuple(host.kv_lens_B[plan.num_decodes :].tolist()),
        has_proposals=plan.num_proposed > 0,
    )


def _rope_lens(chunks: Seq[Chunk], sequence_T: Ints, indices_T: Ints, *, by_prompt: bool) -> Ints:
    """Return the length that each token is rotated for: of its prompt, or of what came so far if more."""
    prompts_T: Ints = np.array([chunk.sequence.num_prompt_tokens for chunk in chunks])[sequence_T]
    return prompts_T if by_prompt else np.maximum(prompts_T, indices_T + 1)


def _fill_in(token_ids_T: Tensor, unknown_U: Tensor, source_U: Tensor, last_ids_S: Tensor | None) -> None:
    """Put in the tokens that only the device knows."""
    if len(unknown_U):
        assert last_ids_S is not None, "a token that only the device knows, and no step before"
        token_ids_T.index_copy_(0, unknown_U, last_ids_S[source_U])


def touched_images(chunk: Chunk) -> list[ImageSlots]:
    """Return the images with rows in the chunk."""
    return [image for image in chunk.sequence.images if image.start < chunk.end and chunk.start < image.end]


def _rows_of_the_head(plan: BatchPlan, starts_B1: Ints) -> Ints:
    """Return the last token of each sampled chunk, then those of prompts that are scored."""
    sampled_S = starts_B1[1:][list(plan.sampled)] - 1
    if not plan.scored:
        return sampled_S
    scored = [starts_B1[i] + np.arange(plan.chunks[i].num_scored) for i in plan.scored]
    return np.concatenate([sampled_S, *scored])


def _adapters(chunks: Seq[Chunk], sequence_T: Ints) -> Ints:
    """Return the adapter that each token runs through, -1 for none; empty where all run through none."""
    numbers = [chunk.sequence.adapter for chunk in chunks]
    if all(number is None for number in numbers):
        return np.empty(0, dtype=np.int64)
    adapters_B: Ints = np.array([-1 if number is None else number for number in numbers])
    return adapters_B[sequence_T]


def _token_ids(chunks: Seq[Chunk]) -> Ints:
    """Return the tokens of the step, 0 for those that are not known here."""
    ids: list[int] = []
    for sequence, start, count, source_row, *_, proposed, _ in chunks:
        if proposed is not None:
            ids.append(proposed)
        elif source_row is None:
            ids += sequence.token_ids[start : start + count]
        elif count == 1:
            ids.append(0)
        else:
            ids += [*sequence.token_ids[start : start + count], 0]
    return np.array(ids)


def _unknown(chunks: Seq[Chunk], starts_B1: Ints) -> tuple[Ints, Ints]:
    """Return which tokens [U] of the step are not known here, and the sampled rows [U] that give them."""
    sources_B = [chunk.source_row for chunk in chunks]
    index_U = [i for i, source in enumerate(sources_B) if source is not None]
    return starts_B1[1:][index_U] - 1, np.array([sources_B[i] for i in index_U], dtype=np.int64)


def page_table(chunks: Seq[Chunk]) -> Ints:
    """Return the pages of each sequence, zeros behind them; no loop over pages or rows."""
    pages = [chunk.sequence.pages for chunk in chunks]
    counts_B = np.array([len(own) for own in pages])
    table_BP = np.zeros((len(chunks), counts_B.max()), dtype=np.int64)
    is_page_BP = np.arange(table_BP.shape[1]) < counts_B[:, None]
    table_BP[is_page_BP] = np.frombuffer(b"".join(pages), dtype=np.intc)
    return table_BP


def _positions(chunks: Seq[Chunk], starts_B1: Ints, indices_T: Ints) -> Ints:
    """Return [T], or [A, T] where a chunk is where its prompt has several axes."""
    if all(chunk.sequence.positions is None for chunk in chunks):
        return indices_T
    offsets_B = [chunk.sequence.position_offset for chunk in chunks]
    after_T: Ints = indices_T + np.repeat(offsets_B, [chunk.num_tokens for chunk in chunks])
    prompts = [
        (chunk, start, chunk.sequence.positions)
        for chunk, start in zip(chunks, starts_B1[:-1].tolist(), strict=True)
        if chunk.sequence.positions is not None and chunk.start < chunk.sequence.num_prompt_tokens
    ]
    if not prompts:
        return after_T
    axes_AT = np.tile(after_T, (max(len(axes) for _, _, axes in prompts), 1))
    for chunk, start, axes in prompts:
        part = axes[:, chunk.start : chunk.end]
        axes_AT[:, start : start + part.shape[1]] = part
    return axes_AT if len(axes_AT) > 1 else axes_AT.reshape(-1)


def _image_rows(
    chunks: Seq[Chunk], first: int, features: Mapping[bytes, Tensor]
) -> tuple[Ints, NDArray[np.bool_], Tensor | None]:
    """Return which tokens of the step are image rows, which of those are not their image's last, the rows.

    `chunks` are those of prompts; their tokens begin at `first`.
    """
    rows: list[Ints] = [np.empty(0, dtype=np.int64)]
    inner: list[NDArray[np.bool_]] = [np.empty(0, dtype=bool)]
    parts: list[Tensor] = []
    starts = accumulate((chunk.num_tokens for chunk in chunks), initial=first)
    for chunk, start in zip(chunks, starts, strict=False):
        for image in touched_images(chunk):
            features_MH = features[image.key]
            for token, row, count in image.rows_between(chunk.start, chunk.end):
                rows.append(np.arange(token, token + count) + (start - chunk.start))
                inner.append(np.arange(row, row + count) + 1 < len(features_MH))
                parts.append(features_MH[row : row + count])
    return np.concatenate(rows), np.concatenate(inner), torch.cat(parts) if parts else None
