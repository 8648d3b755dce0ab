"""Running a network step by step over pages, with every StepInput built by hand from what step.py says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import KvLayer
from engines.spec import DecoderSpec
from engines.steps.decode_rows import PAGES, DecodeRows
from engines.steps.step import AttentionBatch, StepInput


@dataclass
class Run:
    """One sequence: its tokens so far, where its pages lie, how far it was run."""

    token_ids: list[int]
    pages: list[int]
    features: Tensor | None = None  # [rows, hidden], in prompt order
    image_id: int = -1
    done: int = 0
    num_prompt: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_prompt = len(self.token_ids)
        self.image_rows = [i for i, token in enumerate(self.token_ids) if token == self.image_id]


def empty_pages(
    spec: DecoderSpec,
    *,
    num_pages: int,
    page_tokens: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[KvLayer]:
    """Return a pool filled with NaN, so that reading a slot that was never written shows."""
    shape = (num_pages, spec.num_kv_heads, page_tokens, spec.head_dim)
    return [
        KvLayer(
            keys_PKTD=torch.full(shape, torch.nan, device=device, dtype=dtype),
            values_PKTD=torch.full(shape, torch.nan, device=device, dtype=dtype),
        )
        for _ in range(spec.num_layers)
    ]


def step_input(parts: Sequence[tuple[Run, int]], *, page_tokens: int, device: str = "cpu") -> StepInput:
    """Return the step that runs the next `count` tokens of each run; runs that decode must come first."""
    counts = [count for _, count in parts]
    starts = [sum(counts[:i]) for i in range(len(counts) + 1)]
    positions = [run.done + i for run, count in parts for i in range(count)]
    slots = [
        run.pages[(run.done + i) // page_tokens] * page_tokens + (run.done + i) % page_tokens
        for run, count in parts
        for i in range(count)
    ]
    lengths = [run.done + count for run, count in parts]
    most_pages = max(-(-length // page_tokens) for length in lengths)
    rows = [
        start + row - run.done
        for (run, count), start in zip(parts, starts, strict=False)
        for row in run.image_rows
        if run.done <= row < run.done + count
    ]
    features = [
        run.features[
            [run.image_rows.index(row) for row in run.image_rows if run.done <= row < run.done + count]
        ]
        for run, count in parts
        if run.features is not None
    ]

    def ints(values: Sequence[object], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    num_decodes = sum(run.done >= run.num_prompt for run, _ in parts)
    return StepInput(
        token_ids_T=ints([t for run, count in parts for t in run.token_ids[run.done : run.done + count]]),
        positions_T=ints(positions),
        rope_lens_T=ints(
            [max(run.num_prompt, run.done + i + 1) for run, count in parts for i in range(count)]
        ),
        attention=AttentionBatch(
            num_decodes=num_decodes,
            q_starts_B1=ints(starts, torch.int32),
            kv_lens_B=ints(lengths, torch.int32),
            pages_BP=ints([(run.pages + [0] * most_pages)[:most_pages] for run, _ in parts], torch.int32),
            slots_T=ints(slots),
            max_q=max(counts),
            max_kv=max(lengths),
            chunk_lens=tuple(lengths[num_decodes:]),
        ),
        sample_rows_S=torch.arange(sum(counts), device=device),
        feature_rows_M=ints(rows),
        features_MH=torch.cat(features) if rows else None,
    )


def decode_rows(
    runs: Sequence[Run],
    *,
    page_tokens: int,
    sources: Sequence[int] | None = None,
    last_ids: Tensor | None = None,
    adapters: Sequence[int] | None = None,
    has_proposals: bool = False,
) -> DecodeRows:
    """Return the step that decodes the next token of each run, read from `last_ids` where it has a source."""
    sources = sources or [-1] * len(runs)
    own = adapters or [-1] * len(runs)
    most_pages = max(run.done // page_tokens + 1 for run in runs)
    rows = torch.zeros(len(runs), PAGES + most_pages, dtype=torch.int32, pin_memory=torch.cuda.is_available())
    for row, run, source, adapter in zip(rows, runs, sources, own, strict=True):
        token = run.token_ids[run.done] if source < 0 else 0
        pages = run.pages[: run.done // page_tokens + 1]
        slot = pages[-1] * page_tokens + run.done % page_tokens
        words = [token, run.done, max(run.num_prompt, run.done + 1), slot, adapter, source]
        words += [run.done + 1, *pages]
        row[: len(words)] = torch.tensor(words, dtype=torch.int32)
    return DecodeRows(
        rows_BW=rows,
        last_ids_S=last_ids,
        has_adapters=adapters is not None,
        has_proposals=has_proposals,
    )


def run_step(
    network: Network, kv: Sequence[KvLayer], parts: Sequence[tuple[Run, int]], *, device: str = "cpu"
) -> list[Tensor]:
    """Run one step and return the logits of all its tokens, a tensor a run."""
    step = step_input(parts, page_tokens=kv[0].keys_PKTD.shape[2], device=device)
    logits = network.logits(network.hidden(step, kv)).float()
    for run, count in parts:
        run.done += count
    return list(logits.split([count for _, count in parts]))
