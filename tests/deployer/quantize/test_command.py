"""`deploy quantize`: options and samples that cannot work are named."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.config.load import load_config
from deployer.generation.open_model import open_model
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import Message
from deployer.quantize import prompts
from deployer.quantize.samples import Sample

Quantize = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("quantize.compare=[awq,fp4]", "quantize.questions=1"), "must be of fp8, smooth_quant, awq"),
        (("quantize.compare=[]", "quantize.questions=1"), "must be of fp8, smooth_quant, awq"),
        (("quantize.compare=[awq]",), "judges formats by answers; set quantize.questions=2000"),
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
def test_options_that_cannot_work_are_named(words: tuple[str, ...], message: str, quantize: Quantize) -> None:
    code, _, err = quantize(*words)
    assert code == 3
    assert message in err


def test_samples_that_are_too_long_are_left_out_and_told_of(quantize: Quantize, samples: Path) -> None:
    (samples / "0.txt").write_text("long " * 400)
    code, out, err = quantize("quantization=fp8", "quantize.max_tokens=300")
    assert code == 0, err
    assert "1 of 3 samples have more tokens than quantize.max_tokens=300 or than a session" in err
    assert re.search(rf"left out: {samples / '0.png'} \(\d{{3,}}\)\n", err)
    assert json.loads(out)["samples"] == 2


def test_samples_longer_than_a_session_are_left_out_too(quantize: Quantize, samples: Path) -> None:
    (samples / "0.txt").write_text("long " * 4000)
    code, _, err = quantize("quantization=fp8", "quantize.max_tokens=100000")
    assert code == 0, err
    assert "1 of 3 samples have more tokens than quantize.max_tokens=100000 or than a session" in err
    for number in (1, 2):
        (samples / f"{number}.txt").write_text("long " * 4000)
    code, _, err = quantize("quantization=fp8", "quantize.overwrite=true")
    assert code == 3
    assert "the shortest sample has" in err and "take shorter ones: a session has" in err


def test_a_sample_that_the_model_cannot_read_is_named(quantize: Quantize, samples: Path) -> None:
    pictures = [f"{number}.png" for number in (0, 1, 2)]
    lines = [{"text": "one", "images": pictures[:1]}, {"text": "all of them", "images": pictures}]
    (samples / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ("quantization=fp8", f"quantize.samples={samples / 's.jsonl'}", "quantize.num_samples=2")
    code, _, err = quantize(*words, "vision.max_images=2")
    assert code == 3
    assert f"{samples / 's.jsonl'}:2: 3 images" in err and "change it or take it out" in err


def test_a_calibration_too_large_for_the_memory_is_refused_before_its_pixels_are_there(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_free_bytes", lambda: 10_000)
    monkeypatch.setattr(PromptBuilder, "prepare", None)  # which would be called to decode
    code, _, err = quantize("quantization=fp8")
    assert code == 3
    assert "quantize.num_samples=3" in err and "the calibration needs 0.0 GiB of host memory" in err
    assert "lower it or quantize.max_tokens" in err


def test_the_bytes_of_a_sample_are_those_that_it_then_takes(plain: Path, samples: Path) -> None:
    words = ["+model=local", f"model.path={plain}", "engine.device_type=cpu"]
    config = load_config(words)
    model = open_model(config.model, tower=config.vision.name)
    sample = Sample(name="one", turns=[Message.of("user", "What is it?", samples / "0.png")])

    async def both() -> tuple[prompts.SampleSize, Prompt]:
        builder = PromptBuilder(config, model.spec, model.folder)
        try:
            return await prompts._size(builder, sample), await builder.chat(sample.turns)
        finally:
            await builder.aclose()

    size, prompt = asyncio.run(both())
    arrays = [array for image in prompt.images for array in image.arrays]
    assert size.num_tokens == len(prompt.token_ids)
    assert size.pixel_bytes == sum(array.nbytes for array in arrays) > 0


def test_a_sample_alone_is_refused_as_none_would_judge(quantize: Quantize, samples: Path) -> None:
    for number in (1, 2):
        (samples / f"{number}.png").unlink()
        (samples / f"{number}.txt").unlink()
    code, _, err = quantize("quantization=fp8")
    assert code == 3
    assert "1 sample is left; must be 2, one calibrates and one judges" in err


def test_a_group_size_that_does_not_divide_says_which_do(
    quantize: Quantize,
) -> None:
    code, _, err = quantize("quantization=awq", "quantize.group_size=32")
    assert code == 6
    assert "does not divide the inputs 48 of down; use 16 or 8" in err


def test_what_is_quantized_already_is_not_quantized_again(quantize: Quantize, tmp_path: Path) -> None:
    assert quantize("quantization=fp8")[0] == 0
    code, _, err = quantize(
        "quantization=awq", f"model.path={tmp_path / 'out'}", f"quantize.out={tmp_path / 'twice'}"
    )
    assert code == 6
    assert "is quantized already (fp8): quantize the checkpoint that it was made from" in err
    assert not (tmp_path / "twice.unfinished").exists()


def test_samples_that_ship_are_the_same_each_time(quantize: Quantize, tmp_path: Path) -> None:
    words = ("quantization=awq", "quantize.samples=null", "quantize.num_samples=2", "quantize.overwrite=true")
    first, again = (json.loads(quantize(*words)[1]) for _ in range(2))
    assert first["layers"] == again["layers"]
    assert first["layers"] != json.loads(quantize(*words, "quantize.seed=1")[1])["layers"]
