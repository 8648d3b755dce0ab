"""Training batches: pictures as tiles, their dense labels, and many conversations about each picture.

All conversations of a picture stand behind one copy of its rows. Each sees the opening, the picture and
itself, never another conversation: `groups` says which token belongs to what, and positions start anew
for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deployer.pocket_vl.conversations import blind_conversation, conversation
from deployer.pocket_vl.dense_labels import Labels, dense_labels
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.network import Sight
from deployer.pocket_vl.painter import paint
from deployer.pocket_vl.prompts import PromptCoder, TurnIds, random_system
from deployer.pocket_vl.sampling import Level, sample_scene
from deployer.pocket_vl.scene import Scene
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

OPENING, PICTURE, FIRST, BLIND, PADDING = 0, 1, 2, 100, 127


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One picture with its conversations; token arrays are [T]."""

    tiles: npt.NDArray[np.uint8]
    labels: Labels
    ids: list[int]
    positions: list[int]
    groups: list[int]
    weights: list[float]
    kinds: list[int]
    head: int  # tokens before the first conversation


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one training step reads."""

    tiles_ISSC: Tensor  # uint8
    labels_IGG5: Tensor  # uint8
    ids_BT: Tensor  # int32
    positions_BT: Tensor  # int32
    groups_BT: Tensor  # uint8
    weights_BT: Tensor  # float32, of each token in the loss
    kinds_BT: Tensor  # uint8, index into KINDS
    asked_A: Tensor  # int64, flat indices of the tokens before one that counts; filled up with 0
    prefix: Tensor  # int64 [], columns that hold openings and pictures; stays on the CPU

    @classmethod
    def of(cls, tensors: Sequence[Tensor], device: torch.device) -> "Batch":
        """Return the batch of `tensors()`, on a device."""
        names = [field.name for field in fields(cls)]
        moved = [*(tensor.to(device, non_blocking=True) for tensor in tensors[:-1]), tensors[-1]]
        return cls(**dict(zip(names, moved, strict=True)))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the fields in order."""
        return (
            self.tiles_ISSC,
            self.labels_IGG5,
            self.ids_BT,
            self.positions_BT,
            self.groups_BT,
            self.weights_BT,
            self.kinds_BT,
            self.asked_A,
            self.prefix,
        )


class Batches(Dataset[tuple[Tensor, ...]]):
    """Batch `i` as a pure function of the seed and `i`; drawn in worker processes."""

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        size: int,
        book: FontBook,
        coder: PromptCoder,
        pixels: DynamicTilesSpec,
        patch: int,
        text_tokens: int,
        level: Level,
    ) -> None:
        self._seed = seed
        self._count = count
        self._size = size
        self._book = book
        self._coder = coder
        self._pixels = pixels
        self._grid = pixels.image // patch
        self._text_tokens = text_tokens
        self._level: Level = level

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if index >= self._count:
            raise IndexError(index)
        first = (self._seed << 40) + index * self._size
        return collate([self.sample(first + number) for number in range(self._size)]).tensors()

    def sample(self, seed: int) -> Sample:
        """Return one picture with its conversations."""
        scene = sample_scene(seed, self._book, self._level)
        plan = self._pixels.plan(scene.width, scene.height)
        columns, rows = plan.grid
        (tiles,) = self._pixels.arrays(paint(scene, self._book), plan)
        labels = dense_labels(
            scene, self._book, columns=columns, rows=rows, thumbnail=self._pixels.thumbnail, grid=self._grid
        )
        return self._with_conversations(Random(seed ^ 0x5EED), scene, tiles, labels)

    def _with_conversations(
        self, rng: Random, scene: Scene, tiles: npt.NDArray[np.uint8], labels: Labels
    ) -> Sample:
        opening, slot = self._coder.opening(random_system(rng)), self._coder.picture(len(tiles))
        head = len(opening) + len(slot)
        sample = Sample(
            tiles=tiles,
            labels=labels,
            ids=[*opening, *slot],
            positions=list(range(head)),
            groups=[OPENING] * len(opening) + [PICTURE] * len(slot),
            weights=[0.0] * head,
            kinds=[0] * head,
            head=head,
        )
        if rng.random() < 0.35:
            _append(sample, self._coder.turns(blind_conversation(rng)), start=len(opening), group=BLIND)
        group = FIRST
        while group < BLIND:
            turns = self._coder.turns(conversation(rng, scene))
            if len(sample.ids) + len(turns.ids) > head + self._text_tokens:
                break
            _append(sample, turns, start=head, group=group)
            group += 1
        return sample


def _append(sample: Sample, turns: TurnIds, *, start: int, group: int) -> None:
    sample.ids.extend(turns.ids)
    sample.weights.extend(turns.weights)
    sample.kinds.extend(turns.kinds)
    sample.positions.extend(range(start, start + len(turns.ids)))
    sample.groups.extend([group] * len(turns.ids))


def collate(samples: list[Sample]) -> Batch:
    """Return samples side by side: openings and pictures in the first columns, then conversations."""
    prefix = _padded(max(sample.head for sample in samples))
    length = prefix + _padded(max(len(sample.ids) - sample.head for sample in samples))
    shape = (len(samples), length)
    ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    groups, weights = np.full(shape, PADDING, np.uint8), np.zeros(shape, np.float32)
    kinds = np.zeros(shape, np.uint8)
    for row, sample in enumerate(samples):
        for start, part in ((0, slice(0, sample.head)), (prefix, slice(sample.head, len(sample.ids)))):
            stretch = slice(start, start + part.stop - part.start)
            ids[row, stretch] = sample.ids[part]
            positions[row, stretch] = sample.positions[part]
            groups[row, stretch] = sample.groups[part]
            weights[row, stretch] = sample.weights[part]
            kinds[row, stretch] = sample.kinds[part]
    return Batch(
        tiles_ISSC=torch.from_numpy(np.concatenate([sample.tiles for sample in samples])),
        labels_IGG5=torch.from_numpy(np.concatenate([sample.labels for sample in samples])),
        ids_BT=torch.from_numpy(ids),
        positions_BT=torch.from_numpy(positions),
        groups_BT=torch.from_numpy(groups),
        weights_BT=torch.from_numpy(weights),
        kinds_BT=torch.from_numpy(kinds),
        asked_A=_asked(weights),
        prefix=torch.tensor(prefix),
    )


def _asked(weights_BT: npt.NDArray[np.float32]) -> Tensor:
    """Return the flat indices of tokens whose next one counts, up to a multiple of 1,024 with index 0.

    The first token is followed by none that counts. A fixed list spares the device a search, for which the
    host would have to wait.
    """
    found = np.flatnonzero(weights_BT) - 1
    asked = np.zeros(-(-len(found) // 1024) * 1024, np.int64)
    asked[: len(found)] = found
    return torch.from_numpy(asked)


def _padded(length: int) -> int:
    """Return the next multiple of 64."""
    return -(-length // 64) * 64


def sight(batch: Batch) -> Sight:
    """Return which token sees which: what comes before it in its own group, the opening, the picture."""
    prefix = int(batch.prefix)
    groups_BT = batch.groups_BT
    query, key = groups_BT[:, prefix:, None], groups_BT[:, None, :]
    length = groups_BT.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=groups_BT.device).tril()[prefix:]
    shared = (key == OPENING) | ((key == PICTURE) & (query != BLIND)) | (key == query)
    return prefix, shared & earlier
