from dataclasses import replace
from pathlib import Path

import pytest
from plan_cases import spec
from tiny_checkpoint import write_tiny_checkpoint

from deployer.config import load_config
from deployer.config.schema import QuantizationConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment
from deployer.generation.open_model import OpenedModel
from deployer.generation.weight_format import check_weight_format, with_weights
from engines.quant.weight_quant import WeightQuant

PLAIN = spec("1b")
AWQ = replace(PLAIN, quantization=WeightQuant(format="awq", group_size=128))


@pytest.mark.parametrize("asked", ["auto", "none"])
def test_an_unquantized_checkpoint_is_what_auto_and_none_ask_for(asked: str) -> None:
    check_weight_format(QuantizationConfig(weights=asked, kv="none"), PLAIN, origin="m")  # type: ignore[arg-type]  # a parameter


@pytest.mark.parametrize("asked", ["auto", "awq"])
def test_a_quantized_checkpoint_is_what_auto_and_its_own_format_ask_for(asked: str) -> None:
    check_weight_format(QuantizationConfig(weights=asked, kv="none"), AWQ, origin="m")  # type: ignore[arg-type]  # a parameter


@pytest.mark.parametrize(
    ("asked", "held", "words"),
    [
        ("none", AWQ, "m holds awq weights; use quantization=auto, which takes what is there"),
        (
            "gptq",
            AWQ,
            "m holds awq weights; use quantization=auto, which takes what is there, or quantization=awq",
        ),
        ("awq", PLAIN, "m holds bfloat16 weights that are not quantized; use quantization=auto"),
        ("int8", PLAIN, "or make a quantized copy with `deploy quantize quantization=smooth_quant`"),
    ],
)
def test_another_format_is_refused_with_what_the_folder_holds(asked: str, held: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_weight_format(QuantizationConfig(weights=asked, kv="none"), held, origin="m")  # type: ignore[arg-type]  # parameters
    assert words in str(caught.value)


def test_a_deployment_of_another_format_does_not_open(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path)
    words = ["+model=local", f"model.path={folder}", "engine=pytorch"]
    with pytest.raises(ConfigError, match=r"quantization\.weights=awq: .* holds float32 weights"):
        Deployment.open(load_config([*words, "quantization=awq"]))


def test_random_weights_come_in_any_format(tmp_path: Path) -> None:
    config = load_config(["+model=internvl2_8b", "quantization=awq", "engine.load_format=random"])
    model = with_weights(config, OpenedModel(folder=tmp_path, spec=PLAIN, differences=()))
    assert model.spec.quantization == WeightQuant(format="awq", group_size=128, decoder_only=True)
