"""Whole prompts in one forward pass: which run together, and the tensors of their step.

Used by calibration, layer by layer, and by the judging of whole networks. Each prompt has pages of its own.

Legend: T tokens of a batch, H hidden.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.decoder.positions import prompt_positions
from engines.memory.prefix_cache import root_key
from engines.messages import greedy
from engines.options import KvFormat, KvOptions
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots
from engines.schedule.sequence import Sequence as RunningSequence
from engines.spec import DecoderSpec
from engines.steps.batch import step_input
from engines.steps.step import StepInput

PAGE_TOKENS = 16
# Tokens of a batch: few launches for a GPU, what stays in the caches of a CPU.
BATCH_TOKENS = {"cuda": 16_384, "npu": 16_384, "cpu": 2_048}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationPrompt:
    """One conversation as the model reads it, its answers included."""

    token_ids: tuple[int, ...]
    images: tuple[ImageSlots, ...]
    answer_start: int  # the first token of its last answer, which is judged; 0: it has none, all are judged

    @property
    def num_pages(self) -> int:
        """Pages that its keys and values take."""
        return -(-len(self.token_ids) // PAGE_TOKENS)


def batches(prompts: Sequence[CalibrationPrompt], *, num_tokens: int) -> list[list[int]]:
    """Return which prompts run together: of like length, so that little is padded; the longest come first.

    A batch has at most `num_tokens` tokens, padding included, or one prompt.
    """
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number].token_ids))
    found: list[list[int]] = []
    for number in order:
        longest = len(prompts[found[-1][0]].token_ids) if found else 0
        if found and longest * (len(found[-1]) + 1) <= num_tokens:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def page_options(form: KvFormat) -> KvOptions:
    """Return how pages are that one pass fills and reads: as many as are asked for, none shared."""
    return KvOptions(
        format=form,
        page_tokens=PAGE_TOKENS,
        num_pages=None,
        memory=0.5,
        prefix_caching=False,
    )


def prompt_step(
    spec: DecoderSpec,
    prompts: Sequence[CalibrationPrompt],
    features: Mapping[bytes, Tensor],
    *,
    device: torch.device,
) -> StepInput:
    """Return the step of a batch; `features` has the rows [image tokens, H] of its pictures."""
    chunks, first_page = [], 0
    for prompt in prompts:
        pages = range(first_page, first_page + prompt.num_pages)
        first_page = pages.stop
        sequence = sequence_of(spec, prompt, pages)
        chunks.append(Chunk(sequence=sequence, start=0, num_tokens=len(prompt.token_ids)))
    return chunk_step(spec, chunks, features, device=device)


def chunk_step(
    spec: DecoderSpec, chunks: list[Chunk], features: Mapping[bytes, Tensor], *, device: torch.device
) -> StepInput:
    """Return the step of some chunks of prompts."""
    return step_input(
        BatchPlan.of(chunks, []),
        page_tokens=PAGE_TOKENS,
        device=device,
        features=features,
        rope_by_prompt=spec.rope.by_prompt,
    )


def judged_rows(prompts: Sequence[CalibrationPrompt], step: StepInput) -> Tensor:
    """Return the rows of a batch whose next token is judged, int64: those before the tokens of answers.

    Of prompts without an answer all, rows of pictures apart.
    """
    device = step.token_ids_T.device
    asked_T = torch.ones(len(step.token_ids_T), dtype=torch.bool)
    first = 0
    for prompt in prompts:
        asked_T[first : first + max(prompt.answer_start, 1)] = False
        first += len(prompt.token_ids)
    asked_T = asked_T.to(device)
    asked_T[step.feature_rows_M] = False
    return asked_T.nonzero().flatten() - 1


def sequence_of(spec: DecoderSpec, prompt: CalibrationPrompt, pages: Iterable[int]) -> RunningSequence:
    """Return the prompt as the scheduler would have it, in these pages."""
    num_tokens = len(prompt.token_ids)
    positions, offset = prompt_positions(spec.positions, num_tokens, prompt.images)
    sequence = RunningSequence(
        request_id="calibration",
        token_ids=list(prompt.token_ids),
        num_prompt_tokens=num_tokens,
        images=prompt.images,
        sampling=greedy(1),
        max_tokens=num_tokens + 1,
        priority=0,
        arrival=0,
        root_key=root_key(0),
        submitted_s=0.0,
        positions=positions,
        position_offset=offset,
    )
    sequence.pages.extend(pages)
    return sequence
