from array import array
from typing import Any

import pytest
import torch
from choice_memory import largest
from sequences import sequence
from tiny_engine import IMAGE_ID, SPEC, TOKENS_PER_TILE, options, picture

from engines.memory.kv_cache import allocate_kv
from engines.network import Replayed
from engines.pytorch.ops_torch import TorchOps
from engines.sampling.choice_rows import ChoiceRows
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots, Sequence
from engines.steps.decode_rows import ID, KV_LEN, PAGES, POSITION, ROPE_LEN, SLOT, SOURCE, DecodeRows
from engines.steps.launched import TokenChoice
from engines.steps.runner import Runner
from engines.steps.step import AttentionBatch, StepInput
from engines.weights.load import random_network

CPU = torch.device("cpu")


class Watched:
    """A network that notes how many tiles each encoder pass had."""

    def __init__(self) -> None:
        self._network = random_network(
            SPEC, ops=self._WatchedOps(self), device=CPU, dtype=torch.float32, seed=0
        )
        self.spec = SPEC
        self.hidden = self._network.hidden
        self.logits = self._network.logits
        self.encode_images = self._network.encode_images
        self.passes: list[int] = []

    class _WatchedOps(TorchOps):
        """Notes the tiles that the tower's only layer sees at once."""

        def __init__(self, watched: "Watched") -> None:
            super().__init__()
            self._watched = watched

        def attention_full(
            self, q_ILND: torch.Tensor, k_ILND: torch.Tensor, v_ILND: torch.Tensor, *, scale: float
        ) -> torch.Tensor:
            self._watched.passes.append(len(q_ILND))
            return super().attention_full(q_ILND, k_ILND, v_ILND, scale=scale)


@pytest.fixture
def network() -> Watched:
    return Watched()


def runner(network: Watched, *, recorded: Any = None, **changes: Any) -> Runner:
    how = options(**changes)
    kv = allocate_kv(SPEC.decoder, how.kv, num_pages=32, tp=1, dtype=torch.float32, device=CPU)
    return Runner(network, kv, device=CPU, max_batch_size=8, vision=how.vision, recorded=recorded)


def with_images(first_page: int, *seeds: int, num_tiles: int = 1) -> Sequence:
    """A sequence of nothing but images and one last token."""
    size = num_tiles * TOKENS_PER_TILE
    images = tuple(
        ImageSlots(
            key=seed.to_bytes(16, "little"), start=i * size, num_tokens=size, pixels=picture(seed, num_tiles)
        )
        for i, seed in enumerate(seeds)
    )
    one = sequence([IMAGE_ID] * (size * len(seeds)) + [1], images=images)
    one.pages = array("i", range(first_page, first_page + 6))
    return one


def whole(*sequences: Sequence) -> BatchPlan:
    return BatchPlan.of(
        [Chunk(sequence=one, start=0, num_tokens=len(one.token_ids)) for one in sequences], []
    )


def part(one: Sequence, start: int, num_tokens: int) -> BatchPlan:
    return BatchPlan.of([Chunk(sequence=one, start=start, num_tokens=num_tokens)], [])


def test_tiles_of_several_sequences_share_encoder_passes(network: Watched) -> None:
    runner(network).run(whole(with_images(0, 1, 2), with_images(8, 3), with_images(16, 4)))
    assert network.passes == [3, 1]


def test_an_image_that_two_sequences_show_is_encoded_once(network: Watched) -> None:
    run = runner(network)
    run.run(whole(with_images(0, 1), with_images(8, 1)))
    assert (network.passes, run.images_encoded) == ([1], 1)


def test_an_image_cut_by_a_chunk_is_encoded_once_even_without_a_cache(network: Watched) -> None:
    run = runner(network, cache_bytes=0)
    one = with_images(0, 1, num_tiles=2)
    whole_choice = runner(Watched()).run(whole(with_images(0, 1, num_tiles=2)))
    assert run.run(part(one, 0, 3)) == []
    run.run(part(one, 3, 2))
    assert run.run(part(one, 5, 4)) == whole_choice
    assert network.passes == [2]


def test_without_a_cache_a_finished_image_is_dropped(network: Watched) -> None:
    run = runner(network, cache_bytes=0)
    for _ in range(2):
        run.run(whole(with_images(0, 1)))
    assert network.passes == [1, 1]


class Recorded(Watched):
    """Goes straight to the tokens of steps, as a network out of graphs does, over its last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen = 0
        self.replays = 0
        self.kv: Any = None
        self.counts: Any = None
        self._ids = torch.zeros(8, dtype=torch.int64)

    def choose(self, logits: torch.Tensor, rows: ChoiceRows) -> torch.Tensor:
        self.chosen += 1
        return self._choice(logits, rows)

    def replay(self, rows: DecodeRows, how: ChoiceRows | None) -> Replayed:
        self.replays += 1
        self.chosen += how is not None
        words = rows.rows_BW.long()
        ids, sources = words[:, ID], words[:, SOURCE]
        if rows.last_ids_S is not None:
            ids = torch.where(sources < 0, ids, rows.last_ids_S[sources.clamp(min=0)])
        num = len(words)
        step = StepInput(
            token_ids_T=ids,
            positions_T=words[:, POSITION],
            rope_lens_T=words[:, ROPE_LEN],
            attention=AttentionBatch(
                num_decodes=num,
                q_starts_B1=torch.arange(num + 1, dtype=torch.int32),
                kv_lens_B=words[:, KV_LEN].int(),
                pages_BP=words[:, PAGES:].int(),
                slots_T=words[:, SLOT],
                max_q=1,
                max_kv=int(words[:, KV_LEN].max()),
                chunk_lens=(),
            ),
            sample_rows_S=torch.arange(num),
            feature_rows_M=ids[:0],
            features_MH=None,
        )
        logits = self.logits(self.hidden(step, self.kv))
        if how is None:
            self._ids.fill_(-1)
            return Replayed(logits, self._ids[:num])
        return Replayed(logits, self._choice(logits, how))

    def copy_ids(self, ids: torch.Tensor, to: torch.Tensor) -> None:
        to.copy_(ids)

    def _choice(self, logits: torch.Tensor, rows: ChoiceRows) -> torch.Tensor:
        self._ids[: len(logits)] = largest(logits, rows, self.counts)
        return self._ids[: len(logits)]


@pytest.mark.parametrize("how", [{}, {"logit_bias": {1: 2.0}}, {"logprobs": 1}, {"prompt_logprobs": 1}])
def test_a_network_that_chooses_chooses_whatever_is_asked_for(how: dict[str, Any]) -> None:
    def found(recorded: Recorded | None) -> list[TokenChoice]:
        network = recorded or Watched()
        run = runner(network, recorded=recorded)
        if recorded is not None:
            recorded.kv, recorded.counts = run._kv, run._counts
        one = sequence([1, 2, 3], **how)
        one.pages = array("i", [0])
        choices = run.run(part(one, 0, 3))
        for index in range(3, 6):
            one.token_ids.append(choices[-1].token_id or 0)
            choices += run.run(part(one, index, 1))
        return choices

    recorded = Recorded()
    assert found(recorded) == found(None)
    assert (recorded.chosen, recorded.replays) == (4, 3)


@pytest.mark.parametrize(
    "how", [{}, {"logprobs": 1}, {"logit_bias": {1: 2.0}}, {"logprobs": 1, "presence_penalty": -50.0}]
)
def test_a_step_reads_the_tokens_of_the_last_one_before_it_writes_over_them(
    how: dict[str, Any],
) -> None:
    def tokens(recorded: Recorded | None) -> list[list[int | None]]:
        network = recorded or Watched()
        run = runner(network, recorded=recorded)
        if recorded is not None:
            recorded.kv, recorded.counts = run._kv, run._counts
        two = [sequence(list(range(3 + i, 8 + i)), **how) for i in range(2)]
        found: list[list[int | None]] = []
        under_way = None
        for page, one in enumerate(two):
            one.pages = array("i", range(4 * page, 4 * page + 4))
        for index in range(5):
            chunks = [Chunk.of(one, 1 if index else 5) for one in two]
            launched = run.launch(BatchPlan.of(chunks, []).counted_on())
            if under_way is not None:
                found.append([choice.token_id for choice in run.fetch(under_way)])
                under_way.plan.progress(found[-1])
            under_way = launched
        return found

    recorded = Recorded()
    assert tokens(recorded) == tokens(None)
    assert recorded.replays == 4
