"""InternLM-XComposer2 and 2.5 against upstream's numbers, and through the engine's loop."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn_checkpoint import drawn_tensors, write_drawn
from engine_loop_golden import check_engine_loop, noise
from family_golden import FIXTURES, FamilyGolden, Session
from hub_tensors import hub_tensors
from pictured_golden import check_against_upstream, images, picture, prepared
from safetensors.torch import save_file

from engines.decoder.row_linear import LowRankRows
from engines.errors import CheckpointError
from engines.families import read_spec
from engines.parallel import TpGroup
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.vision.parts import PixelSpec
from engines.vision.passes import Normaliser
from engines.weights.load import load_network

CASES = ("xcomposer2_vl", "xcomposer2d5")
TOLERANCE = 5e-5

Unpacked = Callable[[str], FamilyGolden]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    root = tmp_path_factory.mktemp("xcomposer")

    def golden(case: str) -> FamilyGolden:
        folder = root / case
        return FamilyGolden(folder if folder.exists() else write_drawn(FIXTURES / case, folder))

    return golden


@pytest.mark.parametrize("tag", ["text", "img1", "img2"])
@pytest.mark.parametrize("chunk", [1000, 37, 7])
@pytest.mark.parametrize("case", CASES)
def test_rows_logits_and_greedy_tokens_are_the_references(
    case: str, chunk: int, tag: str, unpacked: Unpacked
) -> None:
    check_against_upstream(unpacked(case), tag, chunk=chunk, tolerance=TOLERANCE)


@pytest.mark.parametrize("changes", [{"max_prefill_token_num": 23}, {"prefix_caching": False}], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_the_same_tokens_for_pictures_at_once_and_from_the_cache(
    case: str, changes: dict[str, Any], unpacked: Unpacked
) -> None:
    golden = unpacked(case)
    assert golden.spec.vision is not None
    pixels = golden.spec.vision.pixels
    pictures = [
        noise(pixels, *size, seed=seed, num_images=2) for seed, size in enumerate([(130, 40), (5, 6)])
    ]
    check_engine_loop(golden, pictures, **changes)


@pytest.mark.parametrize("case", CASES)
def test_the_partial_lora_is_for_image_rows_alone(case: str, unpacked: Unpacked) -> None:
    """Without it a text gives the same logits, and a picture others."""
    golden = unpacked(case)
    network, plain = golden.network(), golden.network()
    for layer in plain._decoder._layers:  # type: ignore[attr-defined]  # of a LlamaLike
        for linear in (layer.attention.qkv_linear, layer.attention.o, layer.ffn.gate_up, layer.ffn.down):
            assert linear._down is not None
            linear._down = None
    for tag, is_same in (("text", True), ("img1", False)):
        logits = []
        for net in (network, plain):
            session, placed = Session(net), images(golden, tag)
            sequence = session.sequence(golden.ids(tag), placed)
            logits.append(session.prefill(sequence, session.features(placed), chunk=1000)[-1])
        assert torch.equal(*logits) == is_same


def test_ranks_share_the_additions_so_that_their_sum_is_the_whole(unpacked: Unpacked) -> None:
    golden, x = unpacked("xcomposer2d5"), torch.randn(9, 64)
    rows = LowRankRows(image_rows_M=torch.tensor([2, 3, 7]))

    def layer_of(rank: int, tp: int) -> Any:
        net = load_network(
            golden.folder, golden.spec, ops=TorchOps(), device=torch.device("cpu"), dtype=torch.float32,
            rank=rank, tp=tp,
        )  # fmt: skip
        layer = net._decoder._layers[0]  # type: ignore[attr-defined]  # of a LlamaLike
        norm = layer.ffn.norm
        layer.ffn.norm = replace(norm, group=TpGroup(rank=0, size=1))  # sums are taken here
        return layer

    whole, *shares = layer_of(0, 1), layer_of(0, 2), layer_of(1, 2)
    residual = torch.randn_like(x)
    ffn = sum(share.ffn(x, residual, rows)[0] for share in shares)
    torch.testing.assert_close(ffn, whole.ffn(x, residual, rows)[0], atol=1e-5, rtol=0)
    assert not torch.allclose(ffn, whole.ffn(x, residual, LowRankRows())[0], atol=0.1)
    halves = x.chunk(2, dim=1)
    attended = sum(share.attention.o(half, rows) for share, half in zip(shares, halves, strict=True))
    torch.testing.assert_close(attended, whole.attention.o(x, rows), atol=1e-5, rtol=0)
    queries = torch.cat([share.attention.qkv_linear(x, rows)[:, :32] for share in shares], dim=1)
    torch.testing.assert_close(queries, whole.attention.qkv_linear(x, rows)[:, :64], atol=1e-5, rtol=0)


def normalised_hash(pixels: PixelSpec, array: np.ndarray[Any, Any]) -> tuple[list[int], str]:
    """Return shape and digest as the goldens have them."""
    normalise = Normaliser(pixels.mean, pixels.std, device=torch.device("cpu"), dtype=torch.float32)
    numbers = normalise(torch.from_numpy(array.copy())).permute(2, 0, 1).numpy()
    rounded = np.round(numbers, 4).astype("<f4") + np.float32(0)
    return [1, *numbers.shape], hashlib.sha256(np.ascontiguousarray(rounded).tobytes()).hexdigest()


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_upstreams(case: str, unpacked: Unpacked) -> None:
    golden = unpacked(case)
    assert golden.spec.vision is not None
    own = golden.spec.vision.pixels
    for name, cases in json.loads((FIXTURES / case / "preprocess.json").read_text()).items():
        for how, wanted in cases.items():
            numbers = [int(number) for number in how.replace("hd", "").lstrip("tilesz").split("_")]
            fields = dict(
                zip(("image",) if how.startswith("size") else ("tile", "max_tiles"), numbers, strict=True)
            )
            (array,) = prepared(own.changed(fields), picture(golden, name)).arrays
            shape, digest = normalised_hash(own, array.reshape(array.shape[-3:]))
            assert (shape[-3:], digest) == (wanted["shape"][-3:], wanted["sha256_round4_float32"])


def released(version: str) -> ModelSpec:
    config = {
        "architectures": ["InternLMXComposer2ForCausalLM"],
        "model_type": "internlm2" if version == "2.5" else "internlmxcomposer2",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "vocab_size": 92544,
        "bias": False,
    }
    return read_spec(config | ({"img_size": 490} if version == "2.0" else {}), origin="m")


def test_grids_are_upstreams_for_many_sizes_and_limits() -> None:
    vision = released("2.5").vision
    assert vision is not None
    for case in json.loads((FIXTURES / "xcomposer2d5" / "tiling.json").read_text()):
        for limit in case.keys() - {"wh"}:
            columns, rows = vision.pixels.changed({"max_tiles": int(limit)}).plan(*case["wh"]).grid
            assert [560 * columns, 560 * rows] == case[limit], case
    # 24 tiles for one picture, 6 for each of several.
    assert vision.pixels.plan(6000, 4000).grid == (6, 4)
    assert vision.pixels.plan(6000, 4000, num_images=2).grid == (3, 2)
    assert vision.num_tokens(vision.pixels.plan(6000, 4000)) == 25 * 400 + 1 + 5 * 20


def test_the_released_checkpoints_hold_these_tensors() -> None:
    tower = 3 + 2 + 24 * 16
    decoder = 3 + 32 * (7 + 10)
    for version, separators in (("2.0", 0), ("2.5", 2)):
        tensors = hub_tensors(released(version))
        assert len(tensors) == tower + 4 + separators + decoder
        assert tensors["model.layers.31.attention.wqkv.Plora_B.weight"] == (6144, 256)
        assert tensors["model.layers.0.feed_forward.w3.Plora_A.weight"] == (256, 4096)
        assert tensors["model.layers.0.feed_forward.w2.Plora_A.weight"] == (256, 14336)
    positions = "vit.vision_tower.vision_model.embeddings.position_embedding.weight"
    assert tensors[positions] == (40 * 40 + 1, 1024)
    assert hub_tensors(released("2.0"))[positions] == (35 * 35 + 1, 1024)
    assert hub_tensors(released("2.0"))["vision_proj.0.weight"] == (4096, 1024)
    assert tensors["vision_proj.0.weight"] == (4096, 4096)


def test_the_additions_of_other_modes_are_left_aside(unpacked: Unpacked, tmp_path: Any) -> None:
    folder = write_drawn(FIXTURES / "xcomposer2d5", tmp_path / "m")
    tensors = drawn_tensors(FIXTURES / "xcomposer2d5")["model.safetensors"]
    name = "model.layers.0.attention.wo."
    others = {
        f"{name}lora_{mode}_{part}.weight": torch.ones(8, 8) for mode in ("sft", "web") for part in "AB"
    }
    save_file(tensors | others, folder / "model.safetensors")
    FamilyGolden(folder).network()
    save_file(
        {key: t for key, t in tensors.items() if key != name + "Plora_A.weight"}, folder / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"1 tensor missing: `model\.layers\.0\.attention\.wo\.Plora_A"):
        FamilyGolden(folder).network()


def test_a_scaled_addition_is_refused(unpacked: Unpacked) -> None:
    config = unpacked("xcomposer2d5").config
    scaled = config | {"fixture_overrides": config["fixture_overrides"] | {"plora_alpha": 32}}
    with pytest.raises(
        CheckpointError, match=r"`fixture_overrides\.plora_alpha` is 32: must be plora_rank, 16"
    ):
        read_spec(scaled, origin="m")
