"""Logits where the answers of prompts stand, from a whole network: what it would say, without decoding.

Prompts that begin alike, as questions about one picture do, run what they share once: in a pass before the
one of what is left, from pages that all of them read. A greedy answer is the expected one if and only if each
of its tokens is the likeliest behind those before it, so one pass over prompt and answer tells.

Legend: S rows before the tokens of answers, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby, islice, takewhile

import torch
from torch import Tensor

from engines.memory.kv_cache import allocate_kv
from engines.network import Network
from engines.options import KvFormat
from engines.quant.prompt_steps import (
    BATCH_TOKENS,
    PAGE_TOKENS,
    CalibrationPrompt,
    chunk_step,
    page_options,
    sequence_of,
)
from engines.schedule.batch_plan import Chunk
from engines.spec import DecoderSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Prompts that follow each other and begin alike."""

    numbers: tuple[int, ...]  # of the prompts
    shared: int  # tokens, whole pages


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnswerLogits:
    """What a network gives for some of the prompts."""

    logits_SV: Tensor  # fp32, on the device
    ids_S: Tensor  # int64, on the device: the tokens that come
    owners_S: Tensor  # int64, on the host: whose answer each belongs to


def answer_logits(
    network: Network,
    prompts: Sequence[CalibrationPrompt],
    features: Mapping[bytes, Tensor],
    form: KvFormat,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[AnswerLogits]:
    """Yield batch after batch, the same batches for the same prompts; keys and values are stored as `form`.

    Each prompt must have an answer.
    """
    spec = network.spec.decoder
    groups = _groups(prompts, families(prompts), num_tokens=BATCH_TOKENS[device.type])
    num_pages = max(sum(_num_pages(prompts, family) for family in group) for group in groups)
    kv = allocate_kv(spec, page_options(form), num_pages=num_pages, tp=1, dtype=dtype, device=device)
    for group in groups:
        heads, rests = _chunks(spec, prompts, group)
        if heads:
            network.hidden(chunk_step(spec, heads, features, device=device), kv)
        rows, ids, owners = _answer_rows(prompts, rests, group)
        rows_S, ids_S = torch.tensor([rows, ids], device=device)
        step = chunk_step(spec, rests, features, device=device)
        hidden_SH = network.hidden(replace(step, sample_rows_S=rows_S), kv)
        yield AnswerLogits(logits_SV=network.logits(hidden_SH), ids_S=ids_S, owners_S=torch.tensor(owners))


def families(prompts: Sequence[CalibrationPrompt]) -> list[Family]:
    """Return the prompts by what they begin with; what is shared ends before the first answer."""

    def pictures(number: int) -> list[tuple[bytes, int]]:
        return [(image.key, image.start) for image in prompts[number].images]

    found = []
    for _, part in groupby(range(len(prompts)), key=pictures):
        numbers = tuple(part)
        columns = zip(*(prompts[number].token_ids for number in numbers), strict=False)
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        first_answer = min(prompts[number].answer_start for number in numbers)
        assert first_answer > 0, "what is judged is an answer"
        shared = min(alike, first_answer - 1) if len(numbers) > 1 else 0
        found.append(Family(numbers=numbers, shared=shared // PAGE_TOKENS * PAGE_TOKENS))
    return found


def _groups(
    prompts: Sequence[CalibrationPrompt], families: Sequence[Family], *, num_tokens: int
) -> list[list[Family]]:
    """Return which families run together: of at most so many tokens, padding included, or one alone."""
    found: list[list[Family]] = []
    size = longest = 0
    for family in families:
        own = max(len(prompts[number].token_ids) for number in family.numbers) - family.shared
        longest = max(longest, own, family.shared)
        size += len(family.numbers)
        if not found or size * longest > num_tokens:
            found.append([])
            size, longest = len(family.numbers), max(own, family.shared)
        found[-1].append(family)
    return found


def _num_pages(prompts: Sequence[CalibrationPrompt], family: Family) -> int:
    shared = family.shared // PAGE_TOKENS
    return shared + sum(prompts[number].num_pages - shared for number in family.numbers)


def _chunks(
    spec: DecoderSpec, prompts: Sequence[CalibrationPrompt], group: Sequence[Family]
) -> tuple[list[Chunk], list[Chunk]]:
    """Return the chunks of what is shared, and of what is left of each prompt."""
    heads, rests = [], []
    free = count()
    for family in group:
        shared_pages = list(islice(free, family.shared // PAGE_TOKENS))
        for number in family.numbers:
            prompt = prompts[number]
            own_pages = islice(free, prompt.num_pages - len(shared_pages))
            sequence = sequence_of(spec, prompt, [*shared_pages, *own_pages])
            if family.shared and number == family.numbers[0]:
                heads.append(Chunk(sequence=sequence, start=0, num_tokens=family.shared))
            left = len(prompt.token_ids) - family.shared
            rests.append(Chunk(sequence=sequence, start=family.shared, num_tokens=left))
    return heads, rests


def _answer_rows(
    prompts: Sequence[CalibrationPrompt], rests: Sequence[Chunk], group: Sequence[Family]
) -> tuple[list[int], list[int], list[int]]:
    """Return the rows before the tokens of answers, those tokens, and whose they are."""
    rows, ids, owners = list[int](), list[int](), list[int]()
    first_row = 0
    for number, chunk in zip((n for family in group for n in family.numbers), rests, strict=True):
        answer = prompts[number].token_ids[prompts[number].answer_start :]
        last_row = first_row + chunk.num_tokens - 1
        rows += range(last_row - len(answer), last_row)
        ids += answer
        owners += [number] * len(answer)
        first_row = last_row + 1
    return rows, ids, owners
