"""Qwen-VL against upstream's numbers, and through the engine's loop. The fixture was made for 32 tokens."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn_checkpoint import write_drawn
from engine_loop_golden import check_engine_loop, noise
from family_golden import FIXTURES, FamilyGolden, Session
from hub_tensors import hub_tensors
from pictured_golden import check_against_upstream, images, picture, prepared

from engines.errors import CheckpointError
from engines.families import read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.vision.passes import Normaliser
from engines.weights.load import load_network

FOLDER = FIXTURES / "qwen_vl"
TOLERANCE = 5e-5
RELEASED = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "intermediate_size": 22016,
    "torch_dtype": "bfloat16",
    "visual": {"image_size": 448, "width": 1664, "layers": 48, "heads": 16, "output_dim": 4096},
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> FamilyGolden:
    return FamilyGolden(write_drawn(FOLDER, tmp_path_factory.mktemp("qwen") / "m"))


@pytest.mark.parametrize("tag", ["text", "img1", "img2"])
@pytest.mark.parametrize("chunk", [1000, 37, 7])
def test_rows_logits_and_greedy_tokens_are_the_references(golden: FamilyGolden, tag: str, chunk: int) -> None:
    check_against_upstream(golden, tag, chunk=chunk, tolerance=TOLERANCE)


@pytest.mark.parametrize("changes", [{"max_prefill_token_num": 23}, {"prefix_caching": False}], ids=str)
def test_the_engine_gives_the_same_tokens_for_pictures_at_once_and_from_the_cache(
    golden: FamilyGolden, changes: dict[str, Any]
) -> None:
    assert golden.spec.vision is not None
    pictures = [
        noise(golden.spec.vision.pixels, *size, seed=seed, num_images=2)
        for seed, size in enumerate([(90, 40), (5, 6)])
    ]
    check_engine_loop(golden, pictures, **changes)


def test_logn_attention_and_the_stepped_rope_are_what_the_reference_needs(golden: FamilyGolden) -> None:
    """Switched off by the options, the logits of a long prompt move."""
    wanted = golden.tensors["img1.logits"]
    for changed in (
        golden.spec.decoder.stretched(rope_scaling_factor=None, use_logn_attn=False),
        golden.spec.decoder.stretched(rope_scaling_factor=1.0, use_logn_attn=None),
    ):
        spec = replace(golden.spec, decoder=changed)
        network = load_network(
            golden.folder, spec, ops=TorchOps(), device=torch.device("cpu"), dtype=torch.float32
        )
        session, placed = Session(network), images(golden, "img1")
        sequence = session.sequence(golden.ids("img1"), placed)
        logits = session.prefill(sequence, session.features(placed), chunk=1000)
        assert (logits[-len(wanted) :] - wanted).abs().max() > 0.05
    assert golden.spec.decoder.stretched(rope_scaling_factor=None, use_logn_attn=True).logn_length == 32


def test_pictures_are_squashed_as_upstreams(golden: FamilyGolden) -> None:
    assert golden.spec.vision is not None
    pixels = golden.spec.vision.pixels
    normalised = Normaliser(pixels.mean, pixels.std, device=torch.device("cpu"), dtype=torch.float32)
    for name, cases in json.loads((FOLDER / "preprocess.json").read_text()).items():
        (array,) = prepared(pixels, picture(golden, name)).arrays
        numbers = normalised(torch.from_numpy(array.copy()))[0].permute(2, 0, 1)
        assert list(numbers.shape) == cases[""]["shape"]
        rounded = np.round(numbers.numpy(), 4).astype("<f4") + np.float32(0)
        assert hashlib.sha256(rounded.tobytes()).hexdigest() == cases[""]["sha256_round4_float32"]


def test_the_released_checkpoint_holds_these_tensors() -> None:
    spec = read_spec(RELEASED, origin="m")
    assert spec.vision is not None
    assert spec.vision.num_tokens(spec.vision.pixels.plan(640, 480)) == 256
    tensors = hub_tensors(spec)
    assert tensors["transformer.h.31.mlp.w1.weight"] == (11008, 4096)
    assert tensors["transformer.visual.transformer.resblocks.47.attn.in_proj.weight"] == (4992, 1664)
    assert tensors["transformer.visual.attn_pool.kv_proj.weight"] == (4096, 1664)
    assert len(tensors) == 3 + 32 * 8 + 4 + 48 * 12 + 14
    assert sum(int(np.prod(shape)) for shape in tensors.values()) == 9_656_935_168


def test_qwen_without_pictures_is_a_text_model() -> None:
    spec = read_spec({name: value for name, value in RELEASED.items() if name != "visual"}, origin="m")
    assert spec.vision is None and len(hub_tensors(spec)) == 3 + 32 * 8


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rotary_pct": 0.5}, "`rotary_pct` is 0.5: must be 1"),
        ({"visual": {"n_queries": 250}}, "`visual.n_queries` is 250: must be a square"),
        ({"visual": {"output_dim": 64}}, "`visual.output_dim` is 64: must be hidden_size, 4096"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_spec(RELEASED | changes, origin="m")
    assert fault in str(caught.value)
