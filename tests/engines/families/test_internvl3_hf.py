"""InternVL3 in the layout of transformers against upstream, in both spellings of its names."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_golden import FIXTURES, FamilyGolden, Session, check
from PIL import Image
from safetensors.torch import load_file, save_file

from deployer.parity.case import read_case
from deployer.parity.golden_folder import GoldenFolder
from engines.errors import CheckpointError
from engines.families import read_spec
from engines.schedule.sequence import ImageSlots
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

FOLDER = FIXTURES / "internvl3_hf" / "internvl35_hf_names"
PREPROCESS = json.loads((FIXTURES / "internvl3_hf" / "preprocess.json").read_text())
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def images(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the prompt's pictures; upstream's tiles are normalised floats, [n, 3, side, side]."""
    return read_case(GoldenFolder.open(golden.folder), tag, golden.spec).images


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(FamilyGolden(FOLDER).network(), max_sequences=9)


@pytest.mark.parametrize("tag", ["img1", "img2"])
def test_image_rows_are_the_references(tag: str, session: Session) -> None:
    golden = FamilyGolden(FOLDER)
    rows = torch.cat(list(session.features(images(golden, tag)).values()))
    wanted = golden.tensors[f"{tag}.image_features"].reshape(rows.shape)
    torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1000, 7, 1])
def test_logits_and_greedy_tokens_are_the_references(chunk: int, session: Session) -> None:
    golden = FamilyGolden(FOLDER)
    for tag in ("text", "img1", "img2"):
        check(golden, session, tag, images(golden, tag), chunk=chunk)


def test_the_first_spelling_of_names_is_the_same_checkpoint(tmp_path: Path) -> None:
    golden = FamilyGolden(FOLDER)
    first = (
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    )
    tensors = {}
    for name, tensor in load_file(FOLDER / "model.safetensors").items():
        renamed = next((new + name.removeprefix(old) for old, new in first if name.startswith(old)), name)
        assert renamed != name
        tensors[renamed] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
    (tmp_path / "golden.safetensors").write_bytes((FOLDER / "golden.safetensors").read_bytes())
    renamed_golden = FamilyGolden(tmp_path)
    check(renamed_golden, Session(renamed_golden.network()), "img2", images(golden, "img2"), chunk=1000)


@pytest.mark.parametrize("case", PREPROCESS["images"], ids=lambda case: str(case["file"]))
def test_tiles_are_the_references(case: dict[str, Any]) -> None:
    spec = DynamicTilesSpec(
        image=448, min_tiles=1, max_tiles=12, thumbnail=True, mean=IMAGENET[0], std=IMAGENET[1]
    )
    picture = Image.open(FIXTURES / "pictures" / case["file"]).convert("RGB")
    plan = spec.plan(*picture.size)
    (tiles,) = spec.arrays(picture, plan)
    numbers = (tiles.astype(np.float32) / 255 - np.float32(spec.mean)) / np.float32(spec.std)
    flat = numbers.transpose(0, 3, 1, 2).ravel()
    assert [plan.num_tiles, 3, 448, 448] == case["shape"]
    assert np.abs(flat[case["sample_index"]] - case["sample_value"]).max() < 1e-5
    rounded = np.round(flat.astype(np.float64) * 100).astype("<i2")
    assert hashlib.sha256(rounded.tobytes()).hexdigest() == case["sha256_round2"]


def test_faults_of_a_config_are_told_together() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    config["vision_config"] |= {"use_mean_pooling": False, "image_size": [56, 42]}
    config |= {"image_seq_length": 7, "projector_hidden_act": "relu"}
    with pytest.raises(CheckpointError) as caught:
        read_spec(config, origin="config.json")
    for key in ("use_mean_pooling", "vision_config.image_size", "image_seq_length", "projector_hidden_act"):
        assert key in str(caught.value)


def test_the_tags_around_a_picture_belong_to_it() -> None:
    spec = FamilyGolden(FOLDER).spec
    assert spec.vision is not None and spec.vision.image_token_id is not None
    plan = spec.vision.pixels.plan(56, 56)
    assert spec.vision.assembly.segments(plan) == ("<img>", 4, "</img>")
