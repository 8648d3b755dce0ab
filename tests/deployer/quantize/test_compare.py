"""Formats made and compared by their answers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deployer.cli import main
from deployer.quantize.make_copy import REPORT
from engines.quant import judge_answers

Quantize = Callable[..., tuple[int, str, str]]


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


def test_formats_are_made_and_compared_by_their_answers(quantize: Quantize, tmp_path: Path) -> None:
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


def test_weights_in_12_bits_answer_as_those_in_16_but_not_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("+model=pocket_vl", "quantize.compare=[bf12]", "quantize.questions=4", "quantize.output=json")
    code = main(["quantize", *words, f"quantize.out={tmp_path / 'out'}", "engine.device_type=cpu"])
    out, err = capsys.readouterr()
    assert code == 0, err
    original, rounded = json.loads(out)
    assert (rounded["name"], rounded["num_bytes"]) == ("bf12", original["num_bytes"])
    assert (rounded["right"], rounded["other_answers"]) == (original["right"], 0)
    assert rounded["moved"] > 0  # some weights are rounded
    assert rounded["divergence"] < 1e-6
    assert not (tmp_path / "out").exists()


def test_an_fp8_copy_is_judged_as_decode_reads_it_from_7_bits(quantize: Quantize, tmp_path: Path) -> None:
    code, out, err = quantize("quantize.compare=[fp8,fp7]", "quantize.questions=4")
    assert code == 0, err
    _, whole, rounded = json.loads(out)
    assert (rounded["name"], rounded["num_bytes"]) == ("fp7", whole["num_bytes"])
    assert rounded["divergence"] != whole["divergence"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fp8"]
    own = (f"model.path={tmp_path / 'out/fp8'}", f"quantize.out={tmp_path / 'other'}")
    code, out, err = quantize("quantize.compare=[fp7]", "quantize.questions=4", *own)
    assert code == 0, err
    original, again = json.loads(out)
    assert (original["loss"], again["loss"]) == (whole["loss"], rounded["loss"])
    assert again["moved"] > 0 and not (tmp_path / "other").exists()


def test_weights_of_another_format_are_not_judged_in_7_bits(quantize: Quantize, tmp_path: Path) -> None:
    code, _, err = quantize("quantization=gptq", "quantize.group_size=8")
    assert code == 0, err
    own = (f"model.path={tmp_path / 'out'}", f"quantize.out={tmp_path / 'other'}")
    code, _, err = quantize("quantize.compare=[fp7]", "quantize.questions=4", *own)
    assert code == 3
    assert "quantize.compare: fp7: reads e4m3 weights, this checkpoint's are gptq; leave it out" in err


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
    quantize: Quantize, tmp_path: Path
) -> None:
    code, _, err = quantize("quantize.compare=[fp8,kv_int8]", "quantize.questions=1")
    assert code == 3
    assert "kv_int8: needs heads of a multiple of 16 numbers, this model's have 8; leave it out" in err
    assert not (tmp_path / "out").exists()


def test_keys_and_values_that_the_dtype_does_not_allow_are_refused_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_answers, "load_network", None)  # which would be called with a model
    words = ("+model=pocket_vl", "quantize.compare=[kv_bf12]", "quantize.questions=4", "engine.dtype=float16")
    code = main(["quantize", *words, f"quantize.out={tmp_path / 'out'}", "engine.device_type=cpu"])
    assert code == 3
    assert (
        "quantize.compare: kv_bf12: keeps numbers of bfloat16, float16 has three more bits of mantissa; "
        "leave it out" in capsys.readouterr().err
    )


def test_a_copy_in_12_bits_is_refused_in_float16_which_reads_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_answers, "load_network", None)  # which would be called with a model
    words = ("+model=pocket_vl", "quantize.compare=[bf12]", "quantize.questions=4", "engine.dtype=float16")
    code = main(["quantize", *words, f"quantize.out={tmp_path / 'out'}", "engine.device_type=cpu"])
    assert code == 3
    assert "quantize.compare: bf12: an engine in float16 reads no such copy" in capsys.readouterr().err


def test_a_copy_is_judged_by_held_out_questions(quantize: Quantize) -> None:
    code, out, err = quantize("quantization=awq", "quantize.questions=8")
    assert code == 0, err
    original, copy = json.loads(out)["quality"]
    assert copy["name"] == "awq"
    assert copy["divergence"] > 0
    assert copy["loss"] == pytest.approx(original["loss"] + copy["loss_change"])
