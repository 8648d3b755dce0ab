"""Logits of the network that writes JSON lean to the tokens of their own step, recorded or not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from extraction import LEAD, Pairs, Writer, lean
from op_tape import OpTape
from paged_steps import Run, empty_pages, step_input
from small_decoder import SMALL
from torch import Tensor

from engines.steps.step import StepInput
from engines.turbomind.chunk_graphs import ChunkGraphs

HIDDEN, VOCAB, PAGE_TOKENS, BF16 = SMALL.decoder.hidden, 600, 16, torch.bfloat16


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return Writer(VOCAB, indent=None).pairs


class Level:
    """A network whose own logits are all alike."""

    spec = SMALL

    def hidden(self, step: StepInput, kv: Any) -> Tensor:
        return torch.zeros(len(step.sample_rows_S), HIDDEN, dtype=BF16)

    def logits(self, hidden_SH: Tensor) -> Tensor:
        assert hidden_SH.shape[1] == HIDDEN, "what rows carry for others is taken off"
        return torch.zeros(len(hidden_SH), VOCAB, dtype=BF16)


def leaning(pairs: Pairs) -> Level:
    network = Level()
    lean(network, pairs, torch.device("cpu"), BF16)
    return network


def sampled(parts: list[tuple[Run, int]]) -> StepInput:
    """Return the step in which the last token of each run is sampled."""
    step = step_input(parts, page_tokens=PAGE_TOKENS)
    return replace(step, sample_rows_S=step.attention.q_starts_B1[1:].long() - 1)


@pytest.mark.parametrize("num_decodes", [0, 3])
@pytest.mark.parametrize("chunks", [(2,), (4,), (3, 9)])
def test_a_replayed_step_of_prompts_leans_as_one_that_is_not(
    pairs: Pairs, chunks: tuple[int, ...], num_decodes: int
) -> None:
    kv = empty_pages(SMALL.decoder, num_pages=16, page_tokens=PAGE_TOKENS, dtype=BF16)
    graphs = ChunkGraphs(
        leaning(pairs),
        kv,
        sizes=(8, 16, 32),
        max_batch_size=9,
        session_len=32,
        device=torch.device("cpu"),
        dtype=BF16,
        recorder=OpTape(),
    )
    graphs.capture()
    seen = pairs.seen_R.tolist()
    parts: list[tuple[Run, int]] = []
    for number in range(num_decodes):
        run = Run(token_ids=[1], pages=[number], done=1)
        run.token_ids.append(seen[5 + number])
        parts.append((run, 1))
    parts += [(Run(token_ids=seen[20 : 20 + n], pages=[8 + i]), n) for i, n in enumerate(chunks)]
    step, eager = sampled(parts), leaning(pairs)
    logits_SV = graphs.logits(graphs.hidden(step, kv))
    assert graphs.replays == 1
    torch.testing.assert_close(logits_SV, eager.logits(eager.hidden(step, kv)))


def test_what_always_follows_leads_and_what_was_never_seen_does_not(pairs: Pairs) -> None:
    network = leaning(pairs)
    ids = pairs.seen_R.tolist()
    never = next(token for token in range(VOCAB) if token not in ids)
    runs = [(Run(token_ids=[token], pages=[0]), 1) for token in [*ids, never, VOCAB]]
    logits_SV = network.logits(network.hidden(sampled(runs), None))
    assert logits_SV.max() == LEAD
    assert bool((logits_SV[:, never] == 0).all())
    torch.testing.assert_close(logits_SV[-2], logits_SV[-1])  # an id that is none, as behind a NaN
    assert logits_SV[-1].max() < LEAD
