"""CogVLM, CogVLM2 and GLM-4V against upstream: pixels, positions, rows, logits, greedy tokens; the loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_loop_golden import check_engine_loop, noise
from family_golden import FIXTURES, FamilyGolden, Session, check
from framed_golden import prompt, sha256_of_rounded, unpacked
from safetensors.torch import load_file, save_file
from thread_ranks import Meeting, ThreadGroup, in_threads

from engines.decoder.visual_experts import Order
from engines.errors import CheckpointError
from engines.families import read_spec
from engines.ops import KvLayer
from engines.steps.step import StepInput
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.weights import load

COGVLM, COGVLM2, GLM4V = "cogvlm/cogvlm_chat", "cogvlm/cogvlm2_llama3_bf16_angles", "glm4v/rope_ratio"
CASES = (COGVLM, COGVLM2, GLM4V)
TOLERANCE = 5e-5

Golden = Callable[[str], FamilyGolden]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    root = tmp_path_factory.mktemp("framed")
    known: dict[str, FamilyGolden] = {}

    def open_case(case: str) -> FamilyGolden:
        if case not in known:
            known[case] = unpacked(FIXTURES / case, root / case)
        return known[case]

    return open_case


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_the_references_at_the_fixtures_and_at_the_released_size(
    case: str, golden: Golden
) -> None:
    vision = golden(case).spec.vision
    assert vision is not None and isinstance(vision.pixels, FixedSquareSpec)
    sizes = golden(case).meta["sha256_round4_float32"]
    assert str(vision.pixels.image) in sizes and len(sizes) == 2
    for side, hashes in sizes.items():
        for file, wanted in hashes.items():
            assert sha256_of_rounded(replace(vision.pixels, image=int(side)), file) == wanted


@pytest.mark.parametrize("case", CASES)
def test_positions_and_rows_are_the_references(case: str, golden: Golden) -> None:
    reference = golden(case)
    session = Session(reference.network(), max_sequences=1)
    ids, images = prompt(reference, "img1")
    sequence = session.sequence(ids, images)
    tensors = reference.tensors
    name = "img1.position_ids" if "img1.position_ids" in tensors else "img1.rope_positions"
    assert sequence.positions is not None
    assert sequence.positions.tolist() == [tensors[name].flatten().tolist()]
    assert len(ids) + sequence.position_offset == tensors[name].max() + 1
    (rows,) = session.features(images).values()
    torch.testing.assert_close(rows, tensors["img1.image_features"][0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk", [1000, 7, 1])  # 7 and 1 cut inside the picture
@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_the_references(case: str, chunk: int, golden: Golden) -> None:
    reference = golden(case)
    session = Session(reference.network(), max_sequences=2)
    for tag in ("text", "img1"):
        ids, images = prompt(reference, tag)
        check(reference, session, tag, images, chunk=chunk, tolerance=TOLERANCE, ids=ids)


@pytest.mark.parametrize(
    "changes", [{}, {"max_prefill_token_num": 7, "page_tokens": 4}, {"prefix_caching": False}], ids=str
)
@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_what_the_network_gives_at_once_and_from_the_cache(
    case: str, num_images: int, changes: dict[str, Any], golden: Golden
) -> None:
    reference = golden(case)
    assert reference.spec.vision is not None
    pixels = reference.spec.vision.pixels
    pictures = [noise(pixels, 90, 40, seed=seed, num_images=num_images) for seed in range(num_images)]
    check_engine_loop(reference, pictures, **changes)


@pytest.mark.parametrize("case", [COGVLM, COGVLM2])
def test_the_visual_expert_works_where_the_references_does(
    case: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = golden(case)
    ids, images = prompt(reference, "img1")
    seen: list[StepInput] = []
    session = Session(reference.network(), max_sequences=1)
    hidden = session.network.hidden

    def watched(step: StepInput, kv: Sequence[KvLayer]) -> torch.Tensor:
        seen.append(step)
        return hidden(step, kv)

    monkeypatch.setattr(session.network, "hidden", watched)
    session.prefill(session.sequence(ids, images), session.features(images), chunk=1000)
    order = Order.of(seen[0])
    assert order is not None
    mask = torch.zeros(len(ids), dtype=torch.int64)
    mask[order.by_expert_T[order.num_text :]] = 1
    assert mask.tolist() == reference.tensors["img1.vision_expert_mask"][0].tolist()


@pytest.mark.parametrize(("case", "tp"), [(COGVLM, 2), (COGVLM2, 4), (GLM4V, 2)])
def test_ranks_together_compute_what_one_does(
    case: str, tp: int, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = golden(case)
    ids, images = prompt(reference, "img1")
    meeting = Meeting(tp)
    monkeypatch.setattr(load, "TpGroup", lambda *, rank, size: ThreadGroup(rank, size, meeting))
    sessions = [Session(reference.network(rank=rank, tp=tp), max_sequences=1, tp=tp) for rank in range(tp)]

    def logits(rank: int) -> torch.Tensor:
        session = sessions[rank]
        return session.prefill(session.sequence(ids, images), session.features(images), chunk=1000)

    wanted = reference.tensors["img1.logits"]
    for found in in_threads(tp, logits):
        torch.testing.assert_close(found[-len(wanted) :], wanted, atol=TOLERANCE, rtol=0)


def test_angles_are_rounded_to_the_format_of_the_stored_frequencies(golden: Golden) -> None:
    reference = golden(COGVLM2)
    path = reference.folder.parent / "float32"
    path.mkdir()
    for file in ("config.json", "golden.safetensors", "meta.json"):
        (path / file).write_bytes((reference.folder / file).read_bytes())
    tensors = load_file(reference.folder / "model.safetensors")
    save_file({name: tensor.float() for name, tensor in tensors.items()}, path / "model.safetensors")
    wide = FamilyGolden(path)
    ids, images = prompt(wide, "text")
    session = Session(wide.network(), max_sequences=1)
    logits = session.prefill(session.sequence(ids, images), {}, chunk=1000)
    wanted = reference.tensors["text.logits"]
    assert (logits[-len(wanted) :] - wanted).abs().max() > 10 * TOLERANCE


def test_what_the_config_says_of_long_prompts_reaches_the_visual_experts(golden: Golden) -> None:
    reference = golden(COGVLM2)
    ids, images = prompt(reference, "text")
    logits = {}
    for factor, logn in ((None, None), (4.0, None), (None, True)):
        short = replace(reference.spec.decoder, max_positions=16)
        decoder = short.stretched(rope_scaling_factor=factor, use_logn_attn=logn)
        changed = FamilyGolden(reference.folder)
        changed.__dict__["spec"] = replace(reference.spec, decoder=decoder)
        session = Session(changed.network(), max_sequences=1)
        logits[factor, logn] = session.prefill(session.sequence(ids, images), {}, chunk=1000)[-1]
    plain, *others = logits.values()
    assert all((other - plain).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_too_many_or_too_few_is_named(case: str, golden: Golden) -> None:
    reference = golden(case)
    folder = reference.folder.parent / "broken"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes((reference.folder / "config.json").read_bytes())
    tensors = load_file(reference.folder / "model.safetensors")
    gone = next(name for name in sorted(tensors) if name.endswith("gate_proj.weight"))
    del tensors[gone]
    save_file(tensors | {"stray.w": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        FamilyGolden(folder).network()
    assert gone in str(caught.value) and "`stray.w` [2]" in str(caught.value)


def test_faults_of_a_cogvlm_config_are_told_together(golden: Golden) -> None:
    config = dict(golden(COGVLM2).config) | {"num_multi_query_heads": 3, "tie_word_embeddings": True}
    config["vision_config"] = config["vision_config"] | {"image_size": 98, "num_positions": 7, "num_heads": 5}
    with pytest.raises(CheckpointError) as caught:
        read_spec(config, origin="config.json")
    for key in ("num_multi_query_heads", "tie_word_embeddings", "image_size", "num_positions", "num_heads"):
        assert key in str(caught.value)


def test_faults_of_a_glm4v_config_are_told_together(golden: Golden) -> None:
    config = dict(golden(GLM4V).config) | {"rmsnorm": False, "multi_query_group_num": 3, "kv_channels": 30}
    with pytest.raises(CheckpointError) as caught:
        read_spec(config, origin="config.json")
    for key in ("rmsnorm", "multi_query_group_num", "kv_channels"):
        assert key in str(caught.value)


def test_glm_4_without_pictures_is_another_model(golden: Golden) -> None:
    config = {key: value for key, value in golden(GLM4V).config.items() if key != "vision_config"}
    with pytest.raises(CheckpointError, match="unknown model"):
        read_spec(config, origin="config.json")
