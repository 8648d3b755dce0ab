"""`deploy quantize` on a tiny checkpoint, from the words to a folder that loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoint import write_tiny_checkpoint

from deployer.cli import main
from deployer.quantize import command, make_copy
from deployer.quantize.make_copy import REPORT
from engines.families import read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.quant import quantize_checkpoint
from engines.quant.staging import STATE, Progress, Staging
from engines.weights.load import load_network

FEW = ("quantize.num_samples=3", "quantize.held_out=1", "quantize.output=json")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "samples"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30), (80 * i, 20, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"What colour is number {i}?")
    return folder


@pytest.fixture
def quantize(
    plain: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        given = (
            (f"quantize.samples={samples}",)
            if not any(w.startswith("quantize.samples=") for w in words)
            else ()
        )
        code = main(
            [
                "quantize",
                "+model=local",
                f"model.path={plain}",
                f"quantize.out={tmp_path / 'out'}",
                *FEW,
                *given,
                *words,
            ]
        )
        out, err = capsys.readouterr()
        return code, out, err

    return run


WAYS = (
    ("quantization=awq",),
    ("quantization=awq", "quantize.search=false", "quantize.group_size=8"),
    ("quantization=gptq",),
    ("quantization=gptq", "quantize.act_order=true", "quantize.group_size=-1", "quantize.symmetric=true"),
    ("quantization=smooth_quant",),
    ("quantization=fp8", "quantize.vision=true"),
)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_a_copy_is_made_on_a_gpu(
    words: tuple[str, ...], quantize: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = quantize(*words, "engine=pytorch", "engine.device_type=cuda")
    assert code == 0, err
    report = json.loads(out)
    assert report["perplexity_after"] == pytest.approx(report["perplexity_before"], rel=0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("engine", ["pytorch", "turbomind"])
def test_formats_are_compared_on_a_gpu(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("+model=pocket_vl", f"engine={engine}", "engine.device_type=cuda", "quantize.output=json")
    asked = ("quantize.compare=[awq,nearest,fp8,kv_int8]", "quantize.questions=60", "quantize.num_samples=20")
    code = main(["quantize", *words, *asked, f"quantize.out={tmp_path / 'out'}"])
    out, err = capsys.readouterr()
    assert code == 0, err
    original, *formats = json.loads(out)
    assert original["right"] >= 54
    assert all(0 < row["divergence"] < 0.05 and row["right"] >= 54 for row in formats)


@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_a_copy_loads_as_what_its_config_says(
    words: tuple[str, ...], quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = quantize(*words)
    assert code == 0, err
    report = json.loads(out)
    assert report["bytes_after"] < report["bytes_before"]
    assert report["perplexity_after"] == pytest.approx(report["perplexity_before"], rel=0.5)
    assert report["judged_tokens"] > 0
    assert 0 < report["divergence"] < 0.5
    assert 0 <= report["other_choices"] <= 1
    assert (report["vision_error"] is not None) == ("quantize.vision=true" in words)
    assert len(report["layers"]) == 2
    folder = tmp_path / "out"
    assert not (tmp_path / "out.unfinished").exists()
    spec = read_spec(json.loads((folder / "config.json").read_text()), origin="copy", folder=folder)
    assert spec.quantization is not None
    assert spec.quantization.format == {"smooth_quant": "int8"}.get(words[0][13:], words[0][13:])
    load_network(folder, spec, ops=TorchOps(), device=torch.device("cpu"), dtype=torch.float32)
    assert (folder / "tokenizer_config.json").is_file()


def test_a_killed_run_goes_on_and_makes_the_same_copy(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize_checkpoint, "COMMIT_S", 0.0)
    assert quantize("quantization=awq")[0] == 0
    whole = {path.name: load_file(path) for path in (tmp_path / "out").glob("*.safetensors")}
    shutil.rmtree(tmp_path / "out")
    commit = Staging.commit

    def killed(self: Staging, *parts: Any) -> None:
        commit(self, *parts)
        raise KeyboardInterrupt

    monkeypatch.setattr(Staging, "commit", killed)
    assert quantize("quantization=awq")[0] == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(Staging, "commit", commit)
    assert json.loads((tmp_path / "out.unfinished" / STATE).read_text())["layers"] == 1
    code, _, err = quantize("quantization=gptq")
    assert code == 6
    assert "holds unfinished work with another quantize.format" in err
    assert quantize("quantization=awq")[0] == 0
    again = {path.name: load_file(path) for path in (tmp_path / "out").glob("*.safetensors")}
    assert whole.keys() == again.keys()
    for name, tensors in whole.items():
        assert all(torch.equal(tensor, again[name][key]) for key, tensor in tensors.items())


def test_rows_are_written_once_a_minute_and_behind_the_last_layer(
    quantize: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, layers = Staging.commit, []

    def counted(self: Staging, progress: Progress, *rest: Any) -> None:
        layers.append(progress.layers)
        commit(self, progress, *rest)

    monkeypatch.setattr(Staging, "commit", counted)
    assert quantize("quantization=fp8")[0] == 0
    assert layers == [2]


def test_a_long_run_without_a_terminal_says_how_long_it_takes(
    quantize: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_copy, "TOLD_EVERY_S", 0.0)
    assert "layer 1 of 2, about 0 min left" in quantize("quantization=fp8")[2]


def test_a_folder_that_is_there_is_replaced_only_on_demand(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    code, _, err = quantize("quantization=fp8")
    assert code == 3
    assert "is there already; name another, or give quantize.overwrite=true" in err
    assert quantize("quantization=fp8", "quantize.overwrite=true")[0] == 0
    assert not (tmp_path / "out" / "old.txt").exists()
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_disk_that_fills_up_leaves_nothing_that_loads(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Staging, "finish", full)
    code, _, err = quantize("quantization=fp8")
    assert code == 6
    assert "No space left on device" in err
    assert "goes on where this one stopped" in err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.unfinished" / "config.json").exists()


def test_a_disk_that_is_too_small_is_seen_before_anything_runs(
    quantize: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr("deployer.quantize.output_folder.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(command, "calibration_prompts", None)
    code, _, err = quantize("quantization=fp8")
    assert code == 6
    assert "free space or name a folder on another disk" in err


def test_formats_are_made_and_compared_by_their_answers(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    words = ("quantize.compare=[fp8,nearest]", "quantize.questions=12", "quantize.vision=true")
    code, out, err = quantize(*words)
    assert code == 0, err
    original, *formats = json.loads(out)
    assert [row["name"] for row in formats] == ["fp8", "nearest"]
    assert original["divergence"] == original["loss_change"] == original["other_answers"] == 0
    assert all(row["divergence"] > 0 and row["questions"] == 12 for row in formats)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"fp8", "nearest"}
    reports = (json.loads((tmp_path / f"out/{name}/{REPORT}").read_text()) for name in ("fp8", "nearest"))
    assert [report["vision_error"] is None for report in reports] == [False, True]
    assert formats[0]["num_bytes"] < original["num_bytes"]
    code, out, err = quantize(*words)
    assert code == 3
    assert "is there already" in err


def test_keys_and_values_are_compared_without_a_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("+model=pocket_vl", "quantize.compare=[kv_fp8,kv_int4]", "quantize.questions=4")
    code = main(["quantize", *words, f"quantize.out={tmp_path / 'out'}", "engine.device_type=cpu"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["format", "original", "kv_fp8", "kv_int4"]
    assert not (tmp_path / "out").exists()


def test_answers_are_judged_from_the_picture_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def loss(first_picture: int) -> float:
        words = ("+model=pocket_vl", "quantize.compare=[kv_fp8]", "quantize.output=json")
        asked = ("quantize.questions=2", f"quantize.first_picture={first_picture}")
        code = main(
            ["quantize", *words, *asked, f"quantize.out={tmp_path / 'out'}", "engine.device_type=cpu"]
        )
        out, err = capsys.readouterr()
        assert code == 0, err
        return float(json.loads(out)[0]["loss"])

    assert loss(100_000) != loss(0)


def test_keys_and_values_that_heads_do_not_allow_are_refused_before_anything_is_made(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = quantize("quantize.compare=[fp8,kv_int8]", "quantize.questions=1")
    assert code == 3
    assert "kv_int8: needs heads of a multiple of 16 numbers, this model's have 8; leave it out" in err
    assert not (tmp_path / "out").exists()


def test_a_copy_is_judged_by_held_out_questions(quantize: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = quantize("quantization=awq", "quantize.questions=8")
    assert code == 0, err
    original, copy = json.loads(out)["quality"]
    assert copy["name"] == "awq"
    assert copy["divergence"] > 0
    assert copy["loss"] == pytest.approx(original["loss"] + copy["loss_change"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("quantize.compare=[awq,fp4]", "quantize.questions=1"), "must be of fp8, smooth_quant, awq"),
        (("quantize.compare=[]", "quantize.questions=1"), "must be of fp8, smooth_quant, awq"),
        (("quantize.compare=[awq]",), "quantize.questions=0: formats are compared by answers"),
        (
            ("quantization=awq", "quantize.compare=[awq]", "quantize.questions=1"),
            "quantize.compare names the formats; leave it at auto",
        ),
        ((), "names no format to make; use quantization=awq, gptq, smooth_quant or fp8"),
        (("quantization=awq", "quantize.act_order=true"), "has an effect on gptq only, this is awq"),
        (("quantization=gptq", "quantize.vision=true"), "has an effect on int8 and fp8 only, this is gptq"),
        (("quantization=awq", "quantize.held_out=3"), "must be below quantize.num_samples=3"),
        (("quantization=awq", "quantize.group_size=0"), "must be at least 1, or -1"),
        (("quantization=awq", "quantize.samples=/nowhere"), "there is no such folder or file"),
        (("quantization=awq", "quantize.first_picture=-1"), "first_picture=-1`): must be at least 0"),
        (("quantization=gptq", "quantize.damping=0"), "must be above 0 and at most 1"),
        (("quantization=awq", "quantize.max_tokens=2"), "the shortest sample has"),
    ],
)
def test_options_that_cannot_work_are_named(
    words: tuple[str, ...], message: str, quantize: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = quantize(*words)
    assert code == 3
    assert message in err


def test_samples_that_are_too_long_are_left_out_and_told_of(
    quantize: Callable[..., tuple[int, str, str]], samples: Path
) -> None:
    (samples / "0.txt").write_text("long " * 400)
    code, out, err = quantize("quantization=fp8", "quantize.max_tokens=300")
    assert code == 0, err
    assert "1 of 3 samples have more than quantize.max_tokens=300: left out" in err
    assert json.loads(out)["samples"] == 2


def test_a_sample_alone_is_refused_as_none_would_judge(
    quantize: Callable[..., tuple[int, str, str]], samples: Path
) -> None:
    for number in (1, 2):
        (samples / f"{number}.png").unlink()
        (samples / f"{number}.txt").unlink()
    code, _, err = quantize("quantization=fp8")
    assert code == 3
    assert "1 sample is left; must be 2, one calibrates and one judges" in err


def test_a_group_size_that_does_not_divide_says_which_do(
    quantize: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, err = quantize("quantization=awq", "quantize.group_size=32")
    assert code == 6
    assert "does not divide the inputs 48 of down; use 16 or 8" in err


def test_what_is_quantized_already_is_not_quantized_again(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    assert quantize("quantization=fp8")[0] == 0
    code, _, err = quantize(
        "quantization=awq", f"model.path={tmp_path / 'out'}", f"quantize.out={tmp_path / 'twice'}"
    )
    assert code == 6
    assert "is quantized already (fp8): quantize the checkpoint that it was made from" in err
    assert not (tmp_path / "twice.unfinished").exists()


def test_samples_that_ship_are_the_same_each_time(
    quantize: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    words = ("quantization=awq", "quantize.samples=null", "quantize.num_samples=2", "quantize.overwrite=true")
    first, again = (json.loads(quantize(*words)[1]) for _ in range(2))
    assert first["layers"] == again["layers"]
    assert first["layers"] != json.loads(quantize(*words, "quantize.seed=1")[1])["layers"]
