"""LLaVA, Yi-VL, DeepSeek-VL and Mini-Gemini against upstream's numbers, and through the engine's loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_checkpoint import drawn_tensors, write_drawn
from family_golden import FamilyGolden, Session, check, slots
from llava_golden import FOLDERS, expanded_ids, image_slots, pictures_of, wanted_rows
from safetensors.torch import save_file
from sequences import sampling
from tiny_engine import options

from engines.errors import CheckpointError
from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Done, Failed, ImageInput, Start, Submit
from engines.vision.parts import ImagePixels

CASES = sorted(FOLDERS)
LEGACY = FOLDERS["v15_orig_legacy_type"]
TOLERANCE = 5e-5
TOWER = "model.vision_tower.vision_tower."

Unpacked = Callable[[str], FamilyGolden]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    root = tmp_path_factory.mktemp("llava")

    def golden(case: str) -> FamilyGolden:
        folder = root / case
        return FamilyGolden(folder if folder.exists() else write_drawn(FOLDERS[case], folder))

    return golden


@pytest.mark.parametrize("case", CASES)
def test_rows_logits_and_greedy_tokens_are_the_references(case: str, unpacked: Unpacked) -> None:
    golden = unpacked(case)
    session = Session(golden.network(), page_tokens=16, max_sequences=9)
    for tag in golden.tags:
        images, ids = image_slots(golden, tag), expanded_ids(golden, tag)
        if images:
            rows, wanted = torch.cat(list(session.features(images).values())), wanted_rows(golden, tag)
            torch.testing.assert_close(rows[:: len(rows) // len(wanted)], wanted, atol=TOLERANCE, rtol=0)
        for chunk in (7, 1000) if len(ids) < 500 else (61,):
            check(golden, session, tag, images, chunk=chunk, tolerance=TOLERANCE, ids=ids)


@pytest.mark.parametrize(
    "changes", [{"max_prefill_token_num": 11, "page_tokens": 4}, {"prefix_caching": False}], ids=str
)
@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_the_same_tokens_for_pictures_at_once_and_from_the_cache(
    case: str, changes: dict[str, Any], unpacked: Unpacked
) -> None:
    golden = unpacked(case)
    vision, generator = golden.spec.vision, np.random.default_rng(5)
    assert vision is not None
    side = vision.pixels.shapes(vision.pixels.largest())[0][1]
    plans = [vision.pixels.plan(side, side), vision.pixels.plan(3 * side, side)]
    arrays = [generator.integers(0, 256, vision.pixels.shapes(plan)[0], dtype=np.uint8) for plan in plans]
    counts = [vision.num_tokens(plan) for plan in plans]
    ids = [7, 8, *[1] * counts[0], 9, *[1] * counts[1], 10, 11]
    starts = [2, 3 + counts[0]]
    session = Session(golden.network(), page_tokens=16)
    pictures = [ImagePixels(arrays=(array,), plan=plan) for array, plan in zip(arrays, plans, strict=True)]
    placed = slots(starts, pictures, golden.spec)
    sequence = session.sequence(ids, placed)
    logits = session.prefill(sequence, session.features(placed), chunk=2000)
    wanted = session.greedy(sequence, logits[-1], 6)

    spec = replace(golden.spec, decoder=replace(golden.spec.decoder, max_positions=2048))
    start = Start(folder=str(golden.folder), spec=spec, options=options(**changes))
    loop, _ = load_engine(start, on_phase=lambda _: None)
    files = PixelFiles()
    for turn in ("first", "again"):
        inputs = tuple(
            ImageInput(
                key=bytes([number]) * 16,
                start=image.start,
                num_tokens=image.num_tokens,
                rows=((0, image.num_tokens),),
                pixels=(files.write(array),),
                plan=plan,
                shared=(),
            )
            for number, (image, array, plan) in enumerate(zip(placed, arrays, plans, strict=True))
        )
        how = sampling(max_new_tokens=6, ignore_eos=True)
        assert (
            loop.submit(
                Submit(request_id=turn, token_ids=tuple(ids), images=inputs, sampling=how, priority=0)
            )
            == []
        )
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


def test_the_first_releases_files_and_a_tower_in_a_folder_of_its_own_are_the_same_checkpoint(
    tmp_path: Path,
) -> None:
    (tensors,) = drawn_tensors(LEGACY).values()
    write_drawn(LEGACY, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    names = [name for name in sorted(tensors) if not name.startswith(TOWER)]
    files = {"pytorch_model-00001-of-00002.bin": names[:5], "pytorch_model-00002-of-00002.bin": names[5:]}
    for file, held in files.items():
        torch.save({name: tensors[name] for name in held}, tmp_path / "m" / file)
    weight_map = ", ".join(f'"{name}": "{file}"' for file, held in files.items() for name in held)
    (tmp_path / "m" / "pytorch_model.bin.index.json").write_text('{"weight_map": {' + weight_map + "}}")
    tower = {name.removeprefix(TOWER): tensor for name, tensor in tensors.items() if name.startswith(TOWER)}
    unused = {
        "logit_scale": torch.ones(()),
        "text_model.w": torch.ones(2),
        "visual_projection.weight": torch.ones(2, 2),
    }
    unused["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(tower | unused, tmp_path / "m" / "vision_tower" / "pytorch_model.bin")
    golden = FamilyGolden(tmp_path / "m")
    ids, images = expanded_ids(golden, "img2"), image_slots(golden, "img2")
    check(golden, Session(golden.network()), "img2", images, chunk=1000, tolerance=TOLERANCE, ids=ids)


def test_the_names_of_newer_transformers_are_the_same_checkpoint(tmp_path: Path) -> None:
    source = FOLDERS["v16_mistral_hf"]
    (tensors,) = drawn_tensors(source).values()
    newer = (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("", "model."),
    )
    renamed = {}
    for name, tensor in tensors.items():
        old, new = next(pair for pair in newer if name.startswith(pair[0]))
        renamed[new + name.removeprefix(old)] = tensor
    write_drawn(source, tmp_path / "m")
    save_file(renamed, tmp_path / "m" / "model.safetensors")
    golden = FamilyGolden(tmp_path / "m")
    check(golden, Session(golden.network()), "text", chunk=1000, tolerance=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_too_many_or_too_few_is_named(case: str, tmp_path: Path) -> None:
    folder = write_drawn(FOLDERS[case], tmp_path / "m")
    tensors = drawn_tensors(FOLDERS[case])["model.safetensors"]
    gone = next(name for name in sorted(tensors) if "projector" in name or "aligner" in name)
    save_file(
        {name: t for name, t in tensors.items() if name != gone} | {"stray.w": torch.ones(2)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError) as caught:
        FamilyGolden(folder).network()
    assert gone in str(caught.value) and "`stray.w` [2]" in str(caught.value)


@pytest.mark.parametrize("case", ["yi_vl", "mini_gemini_hd"])
def test_a_tower_that_is_not_there_is_named(case: str, unpacked: Unpacked, tmp_path: Path) -> None:
    golden = unpacked(case)
    (tmp_path / "m").mkdir()
    for file in golden.folder.glob("model.*"):
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"no folder `.*` in or beside .*; fetch that repository into it"
    ):
        replace_folder(golden, tmp_path / "m").network()


def replace_folder(golden: FamilyGolden, folder: Path) -> FamilyGolden:
    """Return the golden with its spec read and its weights elsewhere."""
    moved = FamilyGolden(folder)
    moved.__dict__["spec"] = golden.spec
    return moved


def test_a_pictures_rows_do_not_depend_on_its_neighbours(unpacked: Unpacked) -> None:
    golden = unpacked("v16_vicuna_orig")
    network = golden.network()
    first, second = pictures_of(golden, "img2")
    with torch.inference_mode():
        together = network.encode_images([first, second], max_tiles=3)
        alone = [network.encode_images([picture], max_tiles=99)[0] for picture in (first, second)]
    for rows, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=0)
