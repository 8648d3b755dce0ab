"""MiniCPM-Llama3-V-2.5 against upstream's numbers, and through the engine's loop."""

import hashlib
import json
from typing import Any

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
from engines.errors import CheckpointError, RequestError
from engines.families import read_spec
from engines.schedule.sequence import ImageSlots
from engines.spec import VisionSpec
from engines.vision.assembly.slices import row_positions

FOLDER = FIXTURES / "minicpm_v"
TOLERANCE = 5e-5
PATCH = 14
RELEASED = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "version": "2.5",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "query_num": 96,
    "drop_vision_last_layer": False,
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> FamilyGolden:
    return FamilyGolden(write_drawn(FOLDER, tmp_path_factory.mktemp("minicpm") / "m"))


def images(golden: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the blocks of a prompt, each as a picture that shares the prompt's largest block."""
    return read_case(GoldenFolder.open(golden.folder), tag, golden.spec).images


@pytest.mark.parametrize("tag", ["text", "img2"])
@pytest.mark.parametrize("chunk", [1000, 37, 7])
def test_rows_logits_and_greedy_tokens_are_the_references(golden: FamilyGolden, tag: str, chunk: int) -> None:
    session, placed = Session(golden.network()), images(golden, tag)
    if placed:
        rows = torch.cat(list(session.features(placed).values()))
        torch.testing.assert_close(rows, golden.tensors[f"{tag}.image_features"], atol=TOLERANCE, rtol=0)
    check(golden, session, tag, placed, chunk=chunk, tolerance=TOLERANCE)


@pytest.mark.parametrize("changes", [{"max_prefill_token_num": 23}, {"prefix_caching": False}], ids=str)
def test_the_engine_gives_the_same_tokens_for_pictures_at_once_and_from_the_cache(
    golden: FamilyGolden, changes: dict[str, Any]
) -> None:
    pixels = vision_of(golden).pixels.changed({"max_tiles": 3})
    sizes = [(1000, 333), (50, 60)]
    pictures = [noise(pixels, *size, seed=seed, num_images=2) for seed, size in enumerate(sizes)]
    assert [picture.plan.num_tiles for picture in pictures] == [4, 1]
    check_engine_loop(golden, pictures, **changes)


def vision_of(golden: FamilyGolden) -> VisionSpec:
    assert golden.spec.vision is not None
    return golden.spec.vision


def released() -> VisionSpec:
    vision = read_spec(RELEASED, origin="m").vision
    assert vision is not None
    return vision


@pytest.mark.parametrize("name", ["img_1000x333.png", "img_37x91.png", "img_640x480.png"])
def test_blocks_and_their_prompt_are_upstreams(name: str) -> None:
    vision = released()
    wanted = json.loads((FOLDER / "preprocess.json").read_text())["pictures"][name]
    rgb = Image.open(FIXTURES / "pictures" / name).convert("RGB")
    plan = vision.pixels.plan(*rgb.size)
    arrays = vision.pixels.arrays(rgb, plan)
    assert tuple(array.shape for array in arrays) == vision.pixels.shapes(plan)
    assert (list(plan.grid) if plan.num_tiles > 1 else None) == wanted["grid"]
    blocks = [block for array in arrays for block in array]
    sizes = [[block.shape[0] // PATCH, block.shape[1] // PATCH] for block in blocks]
    assert sizes == wanted["patches_hw"]
    segments = vision.assembly.segments(plan)
    assert "".join("U" if isinstance(part, int) else part for part in segments) == wanted["prompt"]
    assert {part for part in segments if isinstance(part, int)} == {96}
    assert vision.assembly.shared([plan]) == (max(rows * columns for rows, columns in sizes),)
    for block, (rows, columns), digest in zip(blocks, sizes, wanted["sha256"], strict=True):
        unfolded = block.reshape(rows, PATCH, columns, PATCH, 3).transpose(4, 1, 0, 2, 3)
        assert hashlib.sha256(np.ascontiguousarray(unfolded).tobytes()).hexdigest() == digest


def test_rows_of_the_position_table_are_upstreams_for_every_length() -> None:
    digest = hashlib.sha256()
    for length in range(1, 1100):
        digest.update(np.array(row_positions(length, 70), dtype="<i2").tobytes())
    assert digest.hexdigest() == json.loads((FOLDER / "preprocess.json").read_text())["position_rows_sha256"]


def test_lines_of_slices_stand_below_each_other() -> None:
    vision = released()
    plan = vision.pixels.plan(900, 900)
    assert plan.grid == (2, 2)
    texts = [part if isinstance(part, str) else "U" for part in vision.assembly.segments(plan)]
    block = "<image>U</image>"
    assert "".join(texts) == f"{block}<slice>{block}{block}\n{block}{block}</slice>"
    assert vision.num_tokens(plan) == 5 * 98 + 3
    assert vision.most_tokens == 10 * 98 + 2 + 8


def test_a_line_of_a_picture_is_refused_and_low_detail_is_one_block() -> None:
    pixels = released().pixels
    with pytest.raises(RequestError, match="5000x1"):
        pixels.plan(5000, 1)
    assert pixels.low_detail().plan(4000, 3000).num_tiles == 1


def test_blocks_alone_do_not_see_each_other(golden: FamilyGolden) -> None:
    vision = read_spec(golden.config | {"batch_vision_input": False}, origin="m").vision
    assert vision is not None
    assert vision.assembly.shared([vision.pixels.plan(900, 900)]) == ()


def test_the_released_checkpoint_holds_these_tensors() -> None:
    tensors = hub_tensors(read_spec(RELEASED, origin="m"))
    assert tensors["vpm.embeddings.position_embedding.weight"] == (4900, 1152)
    assert tensors["vpm.encoder.layers.26.mlp.fc1.weight"] == (4304, 1152)
    assert tensors["resampler.kv_proj.weight"] == (4096, 1152)
    assert len(tensors) == 3 + 27 * 16 + 2 + 13 + 3 + 32 * 9
    total = sum(int(np.prod(shape)) for shape in tensors.values())
    assert total == 8_537_092_336


def test_other_versions_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"`version` is '2\.6': must be 2\.5"):
        read_spec(RELEASED | {"version": "2.6"}, origin="m")
