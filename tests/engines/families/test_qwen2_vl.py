"""Qwen2-VL and Qwen2.5-VL against upstream: positions, rows, logits, greedy tokens; the engine's loop."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_golden import FIXTURES, FamilyGolden, Session, check, slots
from safetensors.torch import load_file, save_file
from sequences import sampling
from tiny_engine import options

from deployer.parity.case import read_case
from deployer.parity.golden_folder import GoldenFolder
from engines.errors import CheckpointError, EngineError
from engines.families import read_spec
from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Done, Failed, ImageInput, Start, Submit
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels, ImagePlan

CASES = {"qwen2_vl": "img2", "qwen2_5_vl": "img1"}  # two pictures; one through a tower with windows


def golden(case: str) -> FamilyGolden:
    return FamilyGolden(FIXTURES / "qwen2_vl" / case)


def plan_of(columns: int, rows: int) -> ImagePlan:
    """Return the plan of a picture of so many cells of 28 pixels."""
    return ImagePlan(width=28 * columns, height=28 * rows, grid=(columns, rows), num_tiles=1)


def images(reference: FamilyGolden, tag: str) -> tuple[ImageSlots, ...]:
    """Return the prompt's pictures; upstream's are cut into patches already, and normalised."""
    return read_case(GoldenFolder.open(reference.folder), tag, reference.spec).images


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    return {case: Session(golden(case).network(), max_sequences=9) for case in CASES}


@pytest.mark.parametrize(("case", "tag"), CASES.items())
def test_positions_are_the_references(case: str, tag: str, sessions: dict[str, Session]) -> None:
    reference = golden(case)
    sequence = sessions[case].sequence(reference.ids(tag), images(reference, tag))
    assert np.array_equal(sequence.positions, reference.tensors[f"{tag}.position_ids"][:, 0])
    assert sequence.position_offset == reference.tensors[f"{tag}.rope_delta"].item()


@pytest.mark.parametrize(("case", "tag"), CASES.items())
def test_image_rows_are_the_references(case: str, tag: str, sessions: dict[str, Session]) -> None:
    reference = golden(case)
    rows = torch.cat(list(sessions[case].features(images(reference, tag)).values()))
    wanted = reference.tensors[f"{tag}.image_features"].reshape(rows.shape)
    torch.testing.assert_close(rows, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1000, 7, 1])
@pytest.mark.parametrize(("case", "tag"), CASES.items())
def test_logits_and_greedy_tokens_are_the_references(
    case: str, tag: str, chunk: int, sessions: dict[str, Session]
) -> None:
    reference = golden(case)
    for each in ("text", tag):
        check(reference, sessions[case], each, images(reference, each), chunk=chunk)


def stretched(reference: FamilyGolden, *, factor: float | None = None, logn: bool | None = None) -> Any:
    decoder = replace(reference.spec.decoder, max_positions=256)
    return decoder.stretched(rope_scaling_factor=factor, use_logn_attn=logn)


@pytest.mark.parametrize(("case", "tag"), CASES.items())
def test_a_rope_scaling_factor_keeps_the_axes_of_positions(case: str, tag: str) -> None:
    """Prompts that are no longer than what the model was made for are what they were."""
    reference = golden(case)
    reference.__dict__["spec"] = replace(reference.spec, decoder=stretched(reference, factor=2.0))
    check(reference, Session(reference.network()), tag, images(reference, tag), chunk=7)


def test_queries_cannot_be_scaled_by_positions_of_several_axes() -> None:
    with pytest.raises(EngineError, match=r"engine\.use_logn_attn=true: .* three axes.*; use null or false"):
        stretched(golden("qwen2_vl"), logn=True)
    assert stretched(golden("qwen2_vl"), logn=False).logn_length is None


def test_newer_names_and_a_nested_decoder_are_the_same_checkpoint(tmp_path: Path) -> None:
    reference = golden("qwen2_vl")
    tensors = {}
    for name, tensor in load_file(reference.folder / "model.safetensors").items():
        if name.startswith("model."):
            tensors["model.language_model." + name.removeprefix("model.")] = tensor
        else:
            tensors["model." + name if name.startswith("visual.") else name] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    outer = {"architectures", "model_type", "vision_config", "image_token_id", "torch_dtype"}
    config = {key: value for key, value in reference.config.items() if key in outer}
    config["text_config"] = {k: v for k, v in reference.config.items() if k not in outer}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "golden.safetensors").write_bytes((reference.folder / "golden.safetensors").read_bytes())
    nested = FamilyGolden(tmp_path)
    check(nested, Session(nested.network()), "img2", images(reference, "img2"), chunk=1000)


@pytest.mark.parametrize(
    "changes", [{}, {"max_prefill_token_num": 7, "page_tokens": 4}, {"prefix_caching": False}], ids=str
)
@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_what_the_network_gives_at_once_and_from_the_cache(
    case: str, changes: dict[str, Any]
) -> None:
    reference = golden(case)
    image_id = reference.config["image_token_id"]
    grids, generator = [(3, 2), (2, 5)], np.random.default_rng(3)
    arrays = [generator.integers(0, 256, (28 * h, 28 * w, 3), dtype=np.uint8) for w, h in grids]
    ids = [7, 8, *[image_id] * 6, 9, *[image_id] * 10, 10, 11]
    starts = [2, 9]
    session = Session(reference.network())
    pictures = [
        ImagePixels(arrays=(array,), plan=plan_of(*g)) for array, g in zip(arrays, grids, strict=True)
    ]
    placed = slots(starts, pictures, reference.spec)
    sequence = session.sequence(ids, placed)
    logits = session.prefill(sequence, session.features(placed), chunk=1000)
    wanted = session.greedy(sequence, logits[-1], 12)

    spec = replace(reference.spec, decoder=replace(reference.spec.decoder, max_positions=256))
    start = Start(folder=str(reference.folder), spec=spec, options=options(**changes))
    loop, _ = load_engine(start, on_phase=lambda _: None)
    files = PixelFiles()
    for turn in ("first", "again"):
        inputs = tuple(
            ImageInput(
                key=bytes([number]) * 16,
                start=at,
                num_tokens=image.num_tokens,
                rows=((0, image.num_tokens),),
                pixels=(files.write(array),),
                plan=plan_of(*grid),
                shared=(),
            )
            for number, (at, image, array, grid) in enumerate(zip(starts, placed, arrays, grids, strict=True))
        )
        how = sampling(max_new_tokens=12, ignore_eos=True)
        request = Submit(request_id=turn, token_ids=tuple(ids), images=inputs, sampling=how, priority=0)
        assert loop.submit(request) == []
        tokens: list[int] = []
        while loop.has_work:
            for reply in loop.step():
                assert not isinstance(reply, Failed), reply
                if isinstance(reply, Delta):
                    tokens += reply.token_ids
                elif isinstance(reply, Done):
                    is_cached = reply.usage.cached_tokens > 0
        assert tokens == wanted, turn
        assert is_cached == (turn == "again" and changes.get("prefix_caching", True))
    files.close()


def test_faults_of_a_config_are_told_together() -> None:
    config = json.loads((FIXTURES / "qwen2_vl" / "qwen2_5_vl" / "config.json").read_text())
    config["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 4]}
    config["vision_config"] |= {"window_size": 50, "fullatt_block_indexes": [9], "out_hidden_size": 65}
    with pytest.raises(CheckpointError) as caught:
        read_spec(config, origin="config.json")
    for key in ("rope_scaling", "window_size", "fullatt_block_indexes", "out_hidden_size"):
        assert key in str(caught.value)
