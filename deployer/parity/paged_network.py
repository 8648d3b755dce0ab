"""A network over pages of its own: logits of every token of a prompt, in steps of any length.

What an engine's scheduler does between steps is left out; positions, image rows, page tables and rows come
from the engine's own code. Pages are taken in falling order and hold no numbers before a step writes them, so
a step that reads what it must not shows.

Legend: T tokens, V vocabulary.
"""

from array import array
from collections.abc import Sequence as Seq
from dataclasses import replace

import torch
from torch import Tensor

from deployer.parity.case import Case
from engines.decoder.positions import prompt_positions
from engines.memory.kv_cache import allocate_kv
from engines.memory.prefix_cache import root_key
from engines.messages import greedy
from engines.network import Network
from engines.options import KvOptions
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots, Sequence
from engines.steps.batch import step_input

MAX_TILES = 4  # of one pass of a tower: small, so that pictures share passes and are cut by them


class PagedNetwork:
    """Runs one sequence at a time."""

    def __init__(
        self,
        network: Network,
        *,
        page_tokens: int,
        max_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._page_tokens = page_tokens
        self._num_pages = -(-max_tokens // page_tokens)
        self._device = device
        options = KvOptions(
            format="none", page_tokens=page_tokens, num_pages=None, memory=0.1, prefix_caching=True
        )
        self._kv = allocate_kv(
            network.spec.decoder, options, num_pages=self._num_pages, tp=1, dtype=dtype, device=device
        )

    @torch.inference_mode()
    def image_rows(self, images: Seq[ImageSlots]) -> dict[bytes, Tensor]:
        """Return the rows of pictures by key."""
        pixels = [image.pixels for image in images if image.pixels is not None]
        rows = self._network.encode_images(pixels, max_tiles=MAX_TILES) if pixels else []
        return {image.key: part for image, part in zip(images, rows, strict=True)}

    def logits(self, case: Case, rows: dict[bytes, Tensor], *, chunk: int) -> Tensor:
        """Return the logits [T, V] of a prompt, computed in steps of `chunk` tokens."""
        sequence = self._start(case)
        parts = []
        while sequence.num_pending:
            parts.append(self._step(sequence, min(chunk, sequence.num_pending), rows))
        return torch.cat(parts)

    def decoded(self, case: Case, rows: dict[bytes, Tensor], *, chunk: int) -> Tensor:
        """Return the logits from which each of the case's greedy tokens follows, given those before it."""
        sequence = self._start(case)
        last = None
        while sequence.num_pending:
            last = self._step(sequence, min(chunk, sequence.num_pending), rows)[-1:]
        assert last is not None, "a prompt has tokens"
        parts = [last]
        for token in case.greedy[:-1]:
            sequence.token_ids.append(token)
            parts.append(self._step(sequence, 1, {}))
        return torch.cat(parts)

    def _start(self, case: Case) -> Sequence:
        for layer in self._kv:
            layer.keys_PKTD.fill_(torch.nan)
            layer.values_PKTD.fill_(torch.nan)
        sequence = sequence_of(case, self._network, request_id=case.name, arrival=0)
        sequence.pages = array("i", range(self._num_pages - 1, -1, -1))
        return sequence

    @torch.inference_mode()
    def _step(self, sequence: Sequence, num_tokens: int, rows: dict[bytes, Tensor]) -> Tensor:
        chunk = Chunk(sequence=sequence, start=sequence.num_computed, num_tokens=num_tokens)
        step = step_input(
            BatchPlan.of([chunk], []),
            page_tokens=self._page_tokens,
            device=self._device,
            features=rows,
            rope_by_prompt=self._network.spec.decoder.rope.by_prompt,
        )
        every = replace(step, sample_rows_S=torch.arange(num_tokens, device=self._device))
        sequence.num_computed += num_tokens
        return self._network.logits(self._network.hidden(every, self._kv)).float()


def sequence_of(case: Case, network: Network, *, request_id: str, arrival: int) -> Sequence:
    """Return a sequence that asks for the case's greedy tokens."""
    decoder = network.spec.decoder
    num_tokens = len(case.token_ids)
    positions, offset = prompt_positions(decoder.positions, num_tokens, case.images)
    return Sequence(
        request_id=request_id,
        token_ids=list(case.token_ids),
        num_prompt_tokens=num_tokens,
        images=case.images,
        sampling=greedy(1 << 20),
        max_tokens=num_tokens + len(case.greedy),
        priority=0,
        arrival=arrival,
        root_key=root_key(decoder.rope.regime(num_tokens)),
        submitted_s=0.0,
        positions=positions,
        position_offset=offset,
    )
