"""A packed picture with many conversations is what each conversation alone would be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deployer.pocket_vl.dense_labels import CLASSES
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.network import PocketVl, initialise
from deployer.pocket_vl.prompts import PromptCoder
from deployer.pocket_vl.samples import BLIND, OPENING, PICTURE, Batches, collate, sight
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.turns import KINDS
from deployer.pocket_vl.vocabulary import IMAGE_ROW, load_vocabulary

FOLDER = Path(__file__).parents[3] / "deployer" / "models" / "pocket_vl"
SIZES = Sizes(
    vocab=1408,
    vision_hidden=16,
    vision_layers=1,
    vision_heads=2,
    vision_ffn=16,
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    ffn=32,
)


@pytest.fixture(scope="module")
def batches() -> Batches:
    return Batches(
        seed=3,
        count=4,
        size=3,
        book=FontBook([]),
        coder=PromptCoder(load_vocabulary(FOLDER / "tokenizer.json"), rows_per_tile=SIZES.rows_per_tile),
        pixels=model_pixels(),
        patch=SIZES.patch,
        text_tokens=160,
        level="any",
    )


def test_each_conversation_sees_its_picture_and_itself_only(batches: Batches) -> None:
    samples = [batches.sample(seed) for seed in range(6)]
    batch = collate(samples)
    torch.manual_seed(0)
    model = PocketVl(SIZES)
    initialise(model, SIZES)
    row_id = load_vocabulary(FOLDER / "tokenizer.json").token_to_id(IMAGE_ROW)
    assert row_id is not None
    with torch.no_grad():
        rows = torch.randn(int((batch.ids_BT == row_id).sum()), SIZES.hidden)
        assert len(rows) == 64 * len(batch.tiles_ISSC)
        x = model.embed(batch.ids_BT.long(), rows, row_id=row_id)
        packed = model.language_model(x, batch.positions_BT, sight(batch))
        prefix = int(batch.prefix)
        for number, sample in enumerate(samples):
            for group in sorted(set(sample.groups) - {OPENING, PICTURE}):
                seen = {OPENING, group} | (set() if group == BLIND else {PICTURE})
                alone = [i for i, g in enumerate(sample.groups) if g in seen]
                columns = [i if i < sample.head else i - sample.head + prefix for i in alone]
                assert [sample.positions[i] for i in alone] == list(range(len(alone)))
                hidden = model.language_model(
                    x[number : number + 1, columns], torch.arange(len(alone))[None], (0, None)
                )
                torch.testing.assert_close(hidden[0], packed[number, columns], atol=1e-4, rtol=1e-4)


def test_a_batch_is_a_function_of_its_number(batches: Batches) -> None:
    for one, other in zip(batches[1], batches[1], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batches[1][2], batches[2][2])


def test_only_answers_count_in_the_loss(batches: Batches) -> None:
    sample = batches.sample(0)
    assert not any(sample.weights[: sample.head])
    assert 0 < sum(weight > 0 for weight in sample.weights) < len(sample.ids)


def test_the_tokens_that_are_asked_stand_before_those_that_count(batches: Batches) -> None:
    batch = collate([batches.sample(seed) for seed in range(5)])
    weights = batch.weights_BT.flatten()
    told = batch.asked_A[batch.asked_A > 0] + 1
    assert torch.equal(told, weights.nonzero().flatten())
    assert len(batch.asked_A) % 1024 == 0 and not weights[1]
    assert int(batch.kinds_BT.max()) < len(KINDS)


def test_a_letter_knows_its_place_where_its_tile_holds_the_start(batches: Batches) -> None:
    found = [batches.sample(seed).labels for seed in range(30)]
    placed = np.concatenate([labels[labels[..., 4] > 0] for labels in found])
    assert len(placed) > 50
    assert (placed[:, 2] > 0).all() and (placed[:, 0] == CLASSES[0] - 1).all()
    assert {1, 2, 3} <= set(placed[:, 4].tolist())


def test_labels_cover_the_tiles_of_the_picture(batches: Batches) -> None:
    for seed in range(8):
        sample = batches.sample(seed)
        assert sample.labels.shape == (len(sample.tiles), SIZES.grid, SIZES.grid, len(CLASSES))
