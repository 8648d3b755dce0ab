"""Upstream's numbers for a tiny checkpoint, and this runtime's for the same inputs.

A fixture is a folder with config.json, weights and golden.safetensors, tags like `text.input_ids`,
`img1.logits`. `Session` runs a network over real plans and pages: positions, image rows, chunks and the
sampler's rows come from the engine's own code. What cannot be the same for all families, how pictures become
`ImagePixels` and where they stand, a test says itself.
"""

import json
from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sequences import sampling
from torch import Tensor

from engines.decoder.positions import prompt_positions
from engines.families import read_spec
from engines.memory.kv_cache import allocate_kv
from engines.memory.prefix_cache import root_key
from engines.network import Network
from engines.options import KvOptions
from engines.pytorch.ops_torch import TorchOps
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots, Sequence
from engines.spec import ModelSpec
from engines.steps.batch import step_input
from engines.vision.parts import ImagePixels
from engines.weights.load import load_network

FIXTURES = Path(__file__).parents[1] / "fixtures"
CPU = torch.device("cpu")
PAGES_EACH = 128


@dataclass(frozen=True)
class FamilyGolden:
    """One fixture folder."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """Upstream's config.json."""
        values: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return values

    @cached_property
    def spec(self) -> ModelSpec:
        """What this runtime reads from it."""
        return read_spec(self.config, origin=str(self.folder / "config.json"), folder=self.folder)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What upstream's results are, and how they were made."""
        values: dict[str, Any] = json.loads((self.folder / "meta.json").read_text())
        return values

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Upstream's inputs and results."""
        return load_file(self.folder / "golden.safetensors")

    @property
    def tags(self) -> list[str]:
        """Prompts: text, img1, ... as far as they are there."""
        return sorted({name.split(".")[0] for name in self.tensors})

    def ids(self, tag: str) -> list[int]:
        """Return the token ids of a prompt."""
        ids: list[int] = self.tensors[f"{tag}.input_ids"].flatten().tolist()
        return ids

    def network(
        self, *, device: str = "cpu", dtype: torch.dtype = torch.float32, rank: int = 0, tp: int = 1
    ) -> Network:
        """Load the checkpoint, or a rank's share of it."""
        place = torch.device(device)
        return load_network(
            self.folder, self.spec, ops=TorchOps(), device=place, dtype=dtype, rank=rank, tp=tp
        )


def slots(starts: Seq[int], pictures: Seq[ImagePixels], spec: ModelSpec) -> tuple[ImageSlots, ...]:
    """Return pictures whose tokens are all image rows, each with a key of its own."""
    assert spec.vision is not None
    counts = [
        sum(part for part in spec.vision.assembly.segments(picture.plan) if isinstance(part, int))
        for picture in pictures
    ]
    return tuple(
        ImageSlots(key=bytes([number]) * 16, start=start, num_tokens=count, pixels=picture)
        for number, (start, picture, count) in enumerate(zip(starts, pictures, counts, strict=True))
    )


class Session:
    """One network over pages; any number of prompts, in chunks of any length."""

    def __init__(
        self, network: Network, *, page_tokens: int = 8, max_sequences: int = 3, tp: int = 1
    ) -> None:
        self.network = network
        self._page_tokens = page_tokens
        options = KvOptions(
            format="none", page_tokens=page_tokens, num_pages=None, memory=0.1, prefix_caching=True
        )
        self._kv = allocate_kv(
            network.spec.decoder,
            options,
            num_pages=PAGES_EACH * max_sequences,
            tp=tp,
            dtype=torch.float32,
            device=CPU,
        )
        for layer in self._kv:  # reading a slot that was never written shows
            layer.keys_PKTD.fill_(torch.nan)
            layer.values_PKTD.fill_(torch.nan)
        self._num_sequences = 0

    def sequence(self, ids: Seq[int], images: tuple[ImageSlots, ...] = ()) -> Sequence:
        """Return a prompt on pages in falling order, so that neighbours in it are none in memory."""
        spec = self.network.spec.decoder
        positions, offset = prompt_positions(spec.positions, len(ids), images)
        number = self._num_sequences
        self._num_sequences += 1
        pages = range((number + 1) * PAGES_EACH - 1, number * PAGES_EACH - 1, -1)
        return Sequence(
            request_id=f"sequence-{number}",
            token_ids=list(ids),
            num_prompt_tokens=len(ids),
            images=images,
            sampling=sampling(),
            max_tokens=PAGES_EACH * self._page_tokens,
            priority=0,
            arrival=number,
            root_key=root_key(0),
            submitted_s=0.0,
            pages=array("i", pages),
            positions=positions,
            position_offset=offset,
        )

    def features(self, images: Seq[ImageSlots]) -> dict[bytes, Tensor]:
        """Return the rows of pictures by key."""
        pixels = [image.pixels for image in images if image.pixels is not None]
        with torch.inference_mode():
            rows = self.network.encode_images(pixels, max_tiles=4) if pixels else []
        return {image.key: part for image, part in zip(images, rows, strict=True)}

    @torch.inference_mode()
    def run(self, sequence: Sequence, num_tokens: int, features: dict[bytes, Tensor]) -> Tensor:
        """Compute the next tokens of a sequence; return the logits of each."""
        start = sequence.num_computed
        plan = BatchPlan.of([Chunk(sequence=sequence, start=start, num_tokens=num_tokens)], [])
        step = step_input(
            plan,
            page_tokens=self._page_tokens,
            device=CPU,
            features=features,
            rope_by_prompt=self.network.spec.decoder.rope.by_prompt,
        )
        every = replace(step, sample_rows_S=torch.arange(num_tokens))
        sequence.num_computed += num_tokens
        return self.network.logits(self.network.hidden(every, self._kv)).float()

    def prefill(self, sequence: Sequence, features: dict[bytes, Tensor], *, chunk: int) -> Tensor:
        """Return the logits of every token that was not computed yet, in chunks."""
        rows = []
        while sequence.num_pending:
            rows.append(self.run(sequence, min(chunk, sequence.num_pending), features))
        return torch.cat(rows)

    def greedy(self, sequence: Sequence, last_V: Tensor, count: int) -> list[int]:
        """Return the next tokens, each the most likely one."""
        tokens = [int(last_V.argmax())]
        while len(tokens) < count:
            sequence.token_ids.append(tokens[-1])
            tokens.append(int(self.run(sequence, 1, {})[-1].argmax()))
        return tokens


def check(
    golden: FamilyGolden,
    session: Session,
    tag: str,
    images: tuple[ImageSlots, ...] = (),
    *,
    chunk: int,
    tolerance: float = 1e-4,
    ids: Seq[int] | None = None,
) -> None:
    """Hold image rows, logits and greedy tokens of a prompt to upstream's; once more after a preemption."""
    features = session.features(images)
    sequence = session.sequence(golden.ids(tag) if ids is None else ids, images)
    logits = session.prefill(sequence, features, chunk=chunk)
    wanted = golden.tensors[f"{tag}.logits"]
    wanted = wanted.reshape(-1, wanted.shape[-1])
    torch.testing.assert_close(logits[-len(wanted) :], wanted, atol=tolerance, rtol=0)
    greedy = golden.tensors[f"{tag}.greedy_ids"].flatten().tolist()
    half = len(greedy) // 2
    tokens = session.greedy(sequence, logits[-1], half)
    assert tokens == greedy[:half]
    sequence.token_ids.append(tokens[-1])
    sequence.num_computed = 0  # as after a preemption: what was generated is read again with the prompt
    last = session.prefill(sequence, features, chunk=chunk)[-1]
    assert session.greedy(sequence, last, len(greedy) - half) == greedy[half:]
