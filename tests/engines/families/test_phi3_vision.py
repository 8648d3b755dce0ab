"""Phi-3-vision against upstream's numbers, and through the engine's loop."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_checkpoint import write_drawn
from engine_loop_golden import check_engine_loop, noise
from family_golden import FIXTURES, FamilyGolden, Session, check
from hub_tensors import hub_tensors
from PIL import Image

from deployer.parity.case import read_case
from deployer.parity.golden_folder import GoldenFolder
from engines.errors import CheckpointError
from engines.families import read_spec
from engines.schedule.sequence import ImageSlots
from engines.spec import VisionSpec
from engines.vision.assembly.hd_grid import _shrunk
from engines.vision.passes import Normaliser

FOLDER = FIXTURES / "phi3_vision"
TOLERANCE = 5e-5
SIDE = 336


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> FamilyGolden:
    return FamilyGolden(write_drawn(FOLDER, tmp_path_factory.mktemp("phi3") / "m"))


def images(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the prompt's pictures; upstream's global view is no shrunk picture here, so it is given too."""
    return read_case(GoldenFolder.open(golden.folder), tag, golden.spec).images


@pytest.mark.parametrize(("tag", "chunk"), [("text", 1000), ("text", 7), ("img1", 37), ("img2", 1000)])
def test_rows_logits_and_greedy_tokens_are_the_references(golden: FamilyGolden, tag: str, chunk: int) -> None:
    session = Session(golden.network(), page_tokens=16)
    placed = images(golden, tag)
    wanted = golden.tensors.get(f"{tag}.image_features_every_4th")
    if wanted is not None:
        rows = torch.cat(list(session.features(placed).values()))
        torch.testing.assert_close(rows[::4], wanted, atol=TOLERANCE, rtol=0)
    check(golden, session, tag, placed, chunk=chunk, tolerance=TOLERANCE)


def test_the_engine_gives_the_same_tokens_for_pictures_at_once_and_from_the_cache(
    golden: FamilyGolden,
) -> None:
    assert golden.spec.vision is not None
    pixels = golden.spec.vision.pixels.changed({"max_tiles": 2})
    pictures = [noise(pixels, *size, seed=seed, num_images=2) for seed, size in enumerate([(90, 40), (5, 6)])]
    check_engine_loop(golden, pictures, max_prefill_token_num=211)


def vision_of(golden: FamilyGolden) -> VisionSpec:
    assert golden.spec.vision is not None
    return golden.spec.vision


@pytest.mark.parametrize("name", ["img_1000x333.png", "img_37x91.png", "img_640x480.png"])
def test_tiles_and_the_global_view_are_upstreams(golden: FamilyGolden, name: str) -> None:
    vision = vision_of(golden)
    rgb = Image.open(FIXTURES / "pictures" / name).convert("RGB")
    wanted = json.loads((FOLDER / "preprocess.json").read_text())[name]
    assert vision.pixels.max_tiles == 16  # type: ignore[attr-defined]  # of HdImageSpec
    for limit in ("16", "4"):
        pixels = vision.pixels.changed({"max_tiles": int(limit)})
        plan = pixels.plan(*rgb.size)
        (whole,) = pixels.arrays(rgb, plan)
        assert (whole.shape,) == pixels.shapes(plan)
        assert list(whole.shape[:2]) == wanted[limit]["image_size_hw"]
        assert (plan.num_tiles, vision.num_tokens(plan)) == (wanted[limit]["tiles"], wanted[limit]["rows"])
        columns, rows = plan.grid
        tiles = whole.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3)
        digest = hashlib.sha256(np.ascontiguousarray(tiles).tobytes()).hexdigest()
        assert digest == wanted[limit]["local_sha256"]
        normalised = Normaliser(pixels.mean, pixels.std, device=torch.device("cpu"), dtype=torch.float32)
        view = _shrunk(normalised(torch.from_numpy(whole.copy())), SIDE).permute(2, 0, 1).flatten()
        values = torch.tensor(wanted[limit]["global_value"])
        torch.testing.assert_close(view[wanted[limit]["global_index"]], values, atol=1e-5, rtol=0)


def test_a_line_of_a_picture_is_one_row_of_tiles(golden: FamilyGolden) -> None:
    pixels = vision_of(golden).pixels
    assert pixels.plan(5000, 1).grid == (16, 1)
    assert pixels.plan(1, 5000).grid == (1, 16)
    (thin,) = pixels.arrays(Image.new("RGB", (1, 5000)), pixels.plan(1, 5000))
    assert thin.shape == (16 * SIDE, SIDE, 3)
    assert (thin == 0).any() and (thin == 255).any()
    assert vision_of(golden).most_tokens == 17 * 144 + 1 + 12 + 16 * 12
    assert pixels.low_detail().plan(640, 480).num_tiles == 2


def test_the_released_checkpoint_holds_these_tensors() -> None:
    """The published index lists 592 tensors, two of which are the tower's unused last norm."""
    config = json.loads((FOLDER / "config.json").read_text())
    del config["fixture_clip_vision_config"]
    config |= {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32}
    config |= {"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064}
    config |= {"original_max_position_embeddings": 4096, "max_position_embeddings": 131072}
    config["rope_scaling"] = {"type": "su", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    spec = read_spec(config, origin="m")
    tensors = hub_tensors(spec)
    assert len(tensors) == 592 - 2
    assert spec.decoder.rope.attention_factor == pytest.approx(1.190238, abs=1e-5)
    below = "model.vision_embed_tokens."
    assert tensors[below + "img_projection.0.weight"] == (3072, 4096)
    assert tensors[below + "sub_GN"] == (4096,)  # in the file [1, 1, 1, 4096]
    positions = below + "img_processor.vision_model.embeddings.position_embedding.weight"
    assert tensors[positions] == (577, 1024)
    assert sum(int(np.prod(shape)) for shape in tensors.values()) + 2 * 1024 == 4_146_621_440


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("img_processor", {"name": "siglip"}, "`img_processor.name` is 'siglip': must be clip_vision_model"),
        ("img_processor", {"layer_idx": 9}, "must cover the layer that features are taken of, 9"),
        ("embd_layer", {"hd_transform_order": "glb_sub"}, "`embd_layer.hd_transform_order` is 'glb_sub'"),
    ],
)
def test_what_is_not_computed_is_refused(
    golden: FamilyGolden, key: str, value: dict[str, object], fault: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_spec(golden.config | {key: value}, origin="m")
    assert fault in str(caught.value)


def test_the_number_of_tiles_may_stand_in_the_preprocessors_file(golden: FamilyGolden) -> None:
    (golden.folder / "preprocessor_config.json").write_text('{"num_crops": 4}')
    vision = read_spec(golden.config, origin="m", folder=golden.folder).vision
    assert vision is not None and vision.pixels == replace(vision_of(golden).pixels, max_tiles=4)  # type: ignore[type-var]
