"""A quantized copy of a tiny checkpoint: it loads, is whole or not there, and a stopped run goes on."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantizing import FEW
from safetensors.torch import load_file

from deployer.quantize import command, make_copy
from deployer.quantize.output_folder import only_one
from engines.families import read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.quant import quantize_checkpoint
from engines.quant.staging import STATE, Progress, Staging
from engines.weights.load import load_network

Quantize = Callable[..., tuple[int, str, str]]
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
def test_a_copy_is_made_on_a_gpu(words: tuple[str, ...], quantize: Quantize) -> None:
    code, out, err = quantize(*words, "engine=pytorch", "engine.device_type=cuda")
    assert code == 0, err
    report = json.loads(out)
    assert report["perplexity_after"] == pytest.approx(report["perplexity_before"], rel=0.5)


@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_a_copy_loads_as_what_its_config_says(
    words: tuple[str, ...], quantize: Quantize, tmp_path: Path
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
    quantize: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    shard = tmp_path / "out.unfinished" / "model-layer-00000.safetensors"
    written = shard.read_bytes()
    shard.write_bytes(written[:100])
    code, _, err = quantize("quantization=awq")
    assert code == 6 and f"{shard} is not whole" in err
    shard.write_bytes(written)
    assert quantize("quantization=awq")[0] == 0
    again = {path.name: load_file(path) for path in (tmp_path / "out").glob("*.safetensors")}
    assert whole.keys() == again.keys()
    for name, tensors in whole.items():
        assert all(torch.equal(tensor, again[name][key]) for key, tensor in tensors.items())


def test_rows_are_written_once_a_minute_and_behind_the_last_layer(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, layers = Staging.commit, []

    def counted(self: Staging, progress: Progress, *rest: Any) -> None:
        layers.append(progress.layers)
        commit(self, progress, *rest)

    monkeypatch.setattr(Staging, "commit", counted)
    assert quantize("quantization=fp8")[0] == 0
    assert layers == [2]


def test_a_long_run_without_a_terminal_says_how_long_it_takes(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_copy, "TOLD_EVERY_S", 0.0)
    assert "layer 1 of 2, about 0 min left" in quantize("quantization=fp8")[2]


def test_a_folder_that_is_there_is_replaced_only_on_demand(quantize: Quantize, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    code, _, err = quantize("quantization=fp8")
    assert code == 3
    assert "is there already; name another, or give quantize.overwrite=true" in err
    assert quantize("quantization=fp8", "quantize.overwrite=true")[0] == 0
    assert not (tmp_path / "out" / "old.txt").exists()
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_second_process_leaves_the_work_of_the_first_alone(quantize: Quantize, tmp_path: Path) -> None:
    """Both write the same names, whatever they make: each would take the other's files away."""
    (tmp_path / "out.unfinished").mkdir()
    grown = tmp_path / "out.unfinished" / "model-layer-00000.safetensors"
    grown.write_text("of the first")
    with only_one(tmp_path / "out"):
        code, _, err = quantize("quantization=fp8")
    assert (code, grown.read_text()) == (6, "of the first")
    assert "another process makes a copy there; wait for it, end it, or name another folder" in err
    assert quantize("quantization=fp8")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == ["out"]


def test_a_copy_that_another_process_has_made_meanwhile_stays(
    quantize: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_meanwhile(job: make_copy.CopyJob) -> None:
        monkeypatch.undo()
        job.out.mkdir()
        (job.out / "config.json").write_text("another's")

    monkeypatch.setattr(command, "check_job", made_meanwhile)
    code, _, err = quantize("quantization=fp8")
    assert code == 3 and "is there already" in err
    assert (tmp_path / "out" / "config.json").read_text() == "another's"


def test_a_disk_that_fills_up_leaves_nothing_that_loads(
    quantize: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_file_that_cannot_be_written_whole_leaves_nothing_that_loads(
    plain: Path, samples: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "out", ("+model=local", "quantization=fp8", "engine.device_type=cpu", *FEW)
    paths = (f"model.path={plain}", f"quantize.samples={samples}", f"quantize.out={out}")
    command = (sys.executable, "-m", "deployer.cli", "quantize", *words, *paths)

    def few_bytes_a_file() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    found = subprocess.run(command, preexec_fn=few_bytes_a_file, capture_output=True, text=True, check=False)
    assert found.returncode == 6 and "Traceback" not in found.stderr, found.stderr
    assert "File too large" in found.stderr and f"nothing was put at {out}" in found.stderr
    assert not out.exists() and not (tmp_path / "out.unfinished" / "config.json").exists()
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert (out / "config.json").is_file()


def test_a_disk_that_is_too_small_is_seen_before_anything_runs(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr("deployer.quantize.output_folder.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(command, "calibration_prompts", None)
    code, _, err = quantize("quantization=fp8")
    assert code == 6
    assert "free space or name a folder on another disk" in err
