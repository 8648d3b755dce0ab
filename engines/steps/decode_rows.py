"""A step in which every sequence decodes and is sampled: for each a row of what a recording reads of it.

A token that is proposed behind a sequence's last one is a row of its own, one position further on.

Legend: B rows, P pages of the longest, W words of a row, S sampled rows of the step before.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.schedule.batch_plan import BatchPlan
from engines.steps.batch import page_table

# Words of a row, as `kernels/step_rows.cu` reads it; pages follow, zeros behind them.
ID, POSITION, ROPE_LEN, SLOT, ADAPTER, SOURCE, KV_LEN, PAGES = range(8)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRows:
    """One step, on the host."""

    rows_BW: Tensor  # int32, W = PAGES + P; pinned where a GPU reads it
    last_ids_S: Tensor | None  # int64, on the device: what the step before samples; None: all ids are known
    has_adapters: bool  # whether any row runs through one
    has_proposals: bool  # whether rows of one sequence see each other


def is_decode(plan: BatchPlan) -> bool:
    """Whether a step's sequences all decode and are sampled."""
    return plan.num_decodes == len(plan.chunks) == len(plan.sampled)


def decode_rows(
    plan: BatchPlan,
    *,
    page_tokens: int,
    rope_by_prompt: bool,
    last_ids_S: Tensor | None,
    pinned: bool,
) -> DecodeRows:
    """Lay out a step for which `is_decode` holds."""
    chunks = plan.chunks
    pages_BP = page_table(chunks)
    host_BW = torch.empty(len(chunks), PAGES + pages_BP.shape[1], dtype=torch.int32, pin_memory=pinned)
    rows_BW = host_BW.numpy()
    starts_B = np.array([chunk.start for chunk in chunks])
    prompts_B = np.array([chunk.sequence.num_prompt_tokens for chunk in chunks])
    sources = [-1 if chunk.source_row is None else chunk.source_row for chunk in chunks]
    assert last_ids_S is not None or max(sources) < 0, (
        "a token that only the device knows, and no step before"
    )
    rows_BW[:, ID] = [
        chunk.last_known_id if source < 0 else 0 for chunk, source in zip(chunks, sources, strict=True)
    ]
    rows_BW[:, POSITION] = starts_B + [chunk.sequence.position_offset for chunk in chunks]
    rows_BW[:, ROPE_LEN] = prompts_B if rope_by_prompt else np.maximum(prompts_B, starts_B + 1)
    last_pages_B = pages_BP[np.arange(len(chunks)), starts_B // page_tokens]
    rows_BW[:, SLOT] = last_pages_B * page_tokens + starts_B % page_tokens
    adapters = [chunk.sequence.adapter for chunk in chunks]
    rows_BW[:, ADAPTER] = [-1 if adapter is None else adapter for adapter in adapters]
    rows_BW[:, SOURCE] = sources
    rows_BW[:, KV_LEN] = starts_B + 1
    rows_BW[:, PAGES:] = pages_BP
    has_adapters = any(adapter is not None for adapter in adapters)
    return DecodeRows(
        rows_BW=host_BW,
        last_ids_S=last_ids_S,
        has_adapters=has_adapters,
        has_proposals=plan.num_proposed > 0,
    )
