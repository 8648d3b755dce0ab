"""Answering held-out questions with the training network, inside a training run: greedy, no KV cache, in
batches.

The figures that count come from `evaluate.py`, which asks the product's own engine.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import Question
from deployer.pocket_vl.network import PocketVl
from deployer.pocket_vl.painter import paint
from deployer.pocket_vl.prompts import SYSTEM_TEXTS, PromptCoder
from deployer.pocket_vl.scene import Scene
from deployer.pocket_vl.turns import Turn
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

_BATCH = 128
_MAX_NEW = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question, ready for the network."""

    ids: list[int]
    tiles: Tensor | None  # uint8 [tiles, side, side, 3]
    kind: str
    question: str
    answer: str
    scene_number: int
    combinations: bool


def prepare(
    questions: Sequence[Question], book: FontBook, coder: PromptCoder, pixels: DynamicTilesSpec
) -> list[Asked]:
    """Paint the pictures, each once, and encode the prompts."""

    @lru_cache(maxsize=4)
    def tiles_of(scene: Scene) -> Tensor:
        (tiles,) = pixels.arrays(paint(scene, book), pixels.plan(scene.width, scene.height))
        return torch.from_numpy(tiles.copy())

    return [_asked(q, None if q.scene is None else tiles_of(q.scene), coder) for q in questions]


def _asked(question: Question, tiles: Tensor | None, coder: PromptCoder) -> Asked:
    opening = coder.opening(SYSTEM_TEXTS[0])
    slot = () if tiles is None else coder.picture(len(tiles))
    last = Turn(kind=question.turn.kind, question=question.turn.question, answer="")
    asked = coder.turns([*question.before, last]).ids[:-1]
    return Asked(
        ids=[*opening, *slot, *asked],
        tiles=tiles,
        kind=question.turn.kind,
        question=question.turn.question,
        answer=question.turn.answer,
        scene_number=question.scene_number,
        combinations=question.combinations,
    )


@torch.no_grad()
def accuracy(
    model: PocketVl,
    asked: Sequence[Asked],
    coder: PromptCoder,
    normalise: "Normalise",
    *,
    device: torch.device,
) -> tuple[dict[str, tuple[int, int]], list[tuple[Asked, str]]]:
    """Return right and asked by kind (and `all`, `combinations`), and the wrong answers."""
    # Questions with answers of one length end together, which saves forward passes and changes no answer.
    asked = sorted(asked, key=lambda item: len(item.answer))
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    wrong: list[tuple[Asked, str]] = []
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        for item, said in zip(part, _answers(model, part, coder, normalise, device=device), strict=True):
            right = said == item.answer
            for row in (item.kind, "all", *(("combinations",) if item.combinations else ())):
                counts[row][0] += right
                counts[row][1] += 1
            if not right:
                wrong.append((item, said))
    return {kind: (right, total) for kind, (right, total) in sorted(counts.items())}, wrong


class Normalise:
    """uint8 tiles to what the tower reads."""

    def __init__(self, pixels: DynamicTilesSpec, *, device: torch.device, dtype: torch.dtype) -> None:
        self._mean_C = torch.tensor(pixels.mean, device=device) * 255
        self._std_C = torch.tensor(pixels.std, device=device) * 255
        self._dtype = dtype

    def __call__(self, tiles_ISSC: Tensor) -> Tensor:
        """Return [I, C, S, S]."""
        pixels_ISSC = (tiles_ISSC.to(torch.float32) - self._mean_C) / self._std_C
        return pixels_ISSC.to(self._dtype).permute(0, 3, 1, 2)


def _answers(
    model: PocketVl, asked: Sequence[Asked], coder: PromptCoder, normalise: Normalise, *, device: torch.device
) -> list[str]:
    tiles = [item.tiles for item in asked if item.tiles is not None]
    rows_MH = torch.empty(0, model.sizes.hidden, device=device, dtype=next(model.parameters()).dtype)
    if tiles:
        rows_MH = model.encode(normalise(torch.cat(tiles).to(device)))[1].flatten(0, 1)
    lengths = torch.tensor([len(item.ids) for item in asked], device=device)
    width = -(-(int(lengths.max()) + _MAX_NEW) // 16) * 16
    ids = torch.zeros(len(asked), width, dtype=torch.long)
    for row, item in enumerate(asked):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
    ids = ids.to(device)
    positions = torch.arange(width, device=device)[None].expand(len(asked), -1)
    alive = torch.ones(len(asked), dtype=torch.bool, device=device)
    starts, every = lengths.clone(), torch.arange(len(asked), device=device)
    for _ in range(_MAX_NEW):
        x_BTH = model.embed(ids, rows_MH, row_id=coder.row_id)
        hidden = model.language_model(x_BTH, positions, (0, None))[every, lengths - 1]
        chosen = model.language_model.output(hidden).argmax(-1)
        alive &= chosen != coder.end_id
        if not bool(alive.any()):
            break
        ids[every[alive], lengths[alive]] = chosen[alive]
        lengths = lengths + alive
    return [
        coder.decode(ids[row, int(starts[row]) : int(lengths[row])].tolist()) for row in range(len(asked))
    ]
