"""Every fixture holds on the CPU on all paths; one that was tampered with does not, and is told where."""

import json
from pathlib import Path

import pytest
import torch
from golden_fixtures import FOLDERS, written
from parity_runs import run
from safetensors.torch import load_file, save_file

from deployer.errors import ConfigError

CPU = ["engine=pytorch", "engine.device_type=cpu"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_fixture_holds_in_float32(name: str, tmp_path: Path) -> None:
    code, printed = run(written(name, tmp_path / "m"), [*CPU, "output=json"])
    found = json.loads(printed)
    assert code == 0, printed
    assert found["holds"] and found["dtype"] == "float32" and found["left_out"] == {}
    for case in found["cases"]:
        assert set(case["logits"]) == {"whole", "chunked"}
        assert {path: part["equal"] for path, part in case["tokens"].items()} == dict.fromkeys(
            ("whole", "chunked", "engine", "cached"), 16
        )


@pytest.mark.parametrize("name", ["internvl/internlm2_vit300m", "qwen2_vl/qwen2_vl", "minicpm_v"])
def test_bfloat16_is_held_to_relative_norms_and_ties(name: str, tmp_path: Path) -> None:
    code, printed = run(written(name, tmp_path / "m"), [*CPU, "engine.dtype=bfloat16", "output=json"])
    found = json.loads(printed)
    assert code == 0, printed
    assert found["tolerance"]["relative"]
    errors = [part["relative"] for case in found["cases"] for part in case["logits"].values()]
    assert all(1e-3 < error < 0.04 for error in errors)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written("internvl3_hf/internvl35_hf_names", tmp_path / "m")


def changed(folder: Path, name: str, new: torch.Tensor) -> None:
    tensors = load_file(folder / "golden.safetensors")
    save_file(tensors | {name: new}, folder / "golden.safetensors")


def tensor(folder: Path, name: str) -> torch.Tensor:
    return load_file(folder / "golden.safetensors")[name]


@pytest.mark.parametrize("name", ["img1.logits", "img1.image_features"])
def test_a_number_that_is_off_does_not_hold(folder: Path, name: str) -> None:
    off = tensor(folder, name)
    off[-1, -1] += 0.002
    changed(folder, name, off)
    code, printed = run(folder, CPU)
    assert code == 1
    assert "2.0e-03 !" in printed and printed.rstrip().endswith("does not hold: img1")


def test_a_token_that_is_off_does_not_hold_on_any_path(folder: Path) -> None:
    ids = tensor(folder, "img1.greedy_ids")
    ids[5] += 1
    changed(folder, "img1.greedy_ids", ids)
    code, printed = run(folder, CPU)
    [line] = [line for line in printed.splitlines() if line.startswith("img1 ")]
    assert code == 1
    assert line.split()[-1] == "NO" and line.count("!") == 4


def test_a_wider_tolerance_lets_it_hold(folder: Path) -> None:
    off = tensor(folder, "img1.logits") + 0.002
    changed(folder, "img1.logits", off)
    assert run(folder, CPU)[0] == 1
    assert run(folder, [*CPU, "parity.float32_error=0.003"])[0] == 0


def test_cases_of_either_spelling_and_of_any_name_are_found(folder: Path) -> None:
    tensors = load_file(folder / "golden.safetensors")
    parts = {"input_ids": "input_ids", "logits": "logits", "greedy_ids": "greedy"}
    renamed = {f"{new}_a_long_name": tensors[f"text.{old}"].clone() for old, new in parts.items()}
    save_file(tensors | renamed, folder / "golden.safetensors")
    cases = json.loads(run(folder, [*CPU, "output=json"])[1])["cases"]
    assert [case["name"] for case in cases] == ["a_long_name", "img1", "img2", "text"]


def test_chunks_and_pages_are_cut_as_asked(folder: Path) -> None:
    found = json.loads(run(folder, [*CPU, "parity.page_tokens=4", "parity.chunk_tokens=3", "output=json"])[1])
    assert {case["name"]: case["cached_tokens"] for case in found["cases"]} == {
        "img1": 20,
        "img2": 28,
        "text": 16,
    }


def test_a_video_is_left_out_and_said_so(folder: Path) -> None:
    tensors = load_file(folder / "golden.safetensors")
    video = {
        f"vid1.{what}": tensors[f"text.{what}"].clone() for what in ("input_ids", "logits", "greedy_ids")
    }
    save_file(tensors | video | {"vid1.pixel_values_videos": torch.ones(2)}, folder / "golden.safetensors")
    code, printed = run(folder, CPU)
    assert code == 0
    assert "not run: `vid1`, a video" in printed


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_a_video_of_a_family_that_takes_it_whole_is_a_case(name: str, tmp_path: Path) -> None:
    code, printed = run(written(f"qwen2_vl/{name}", tmp_path / "m"), [*CPU, "output=json"])
    cases = {case["name"]: case for case in json.loads(printed)["cases"]}
    assert code == 0
    assert cases["vid1"]["num_images"] == 1


def test_a_video_beside_pictures_is_left_out(tmp_path: Path) -> None:
    folder = written("qwen2_vl/qwen2_vl", tmp_path / "m")
    changed(folder, "vid1.image_grid_thw", torch.ones(1, 3, dtype=torch.int64))
    code, printed = run(folder, CPU)
    assert code == 0
    assert "not run: `vid1`, pictures beside a video" in printed


def test_what_is_no_golden_folder_is_refused(folder: Path) -> None:
    (folder / "golden.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"its golden.safetensors cannot be read"):
        run(folder, CPU)
    save_file({"text.logits": torch.ones(2)}, folder / "golden.safetensors")
    with pytest.raises(ConfigError, match="holds no case"):
        run(folder, CPU)
    save_file({"text.input_ids": torch.ones(2, dtype=torch.int64)}, folder / "golden.safetensors")
    with pytest.raises(ConfigError, match="case `text` lacks `logits`"):
        run(folder, CPU)


def test_options_that_nothing_can_be_held_to_are_told_together(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(folder, [*CPU, "parity.chunk_tokens=0", "parity.page_tokens=12", "parity.bfloat16_error=-1"])
    for key in ("parity.chunk_tokens=0", "parity.page_tokens=12", "parity.bfloat16_error=-1"):
        assert key in str(caught.value)


def test_more_than_one_rank_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.tp=2: .* use engine\.tp=1"):
        run(folder, [*CPU, "engine.tp=2"])
